#!/usr/bin/env python3
"""Checks manifests off-line: by the schemas of Kubernetes, and what these cannot know.

    check.py PROGRAM             checks the manifests beside it: the cluster, and its variant with a node a machine
    check.py --mutations PROGRAM checks that it finds mistakes: each of a list is made, and has to be told

PROGRAM is rmbd, which is asked for its options and about the configuration. The schemas are those of
kubernetes-validate (`pip install kubernetes-validate`). The exit code is 1 where something is wrong, and 2 where it
cannot be checked.
"""

import functools
import pathlib
import re
import subprocess
import sys
import tempfile

try:
    import kubernetes_validate
    import yaml
except ImportError as missing:
    print(f"{missing}: pip install kubernetes-validate", file=sys.stderr)
    sys.exit(2)

HERE = pathlib.Path(__file__).parent
VERSION = "1.31"
# What a node answers to.
PROBES = {"startupProbe": "/readyz", "readinessProbe": "/readyz", "livenessProbe": "/healthz"}

# A mistake: its file, what is replaced (the first of it), and by what.
MUTATIONS = [
    ("cluster.yaml", "readinessProbe:", "readynessProbe:"),
    ("cluster.yaml", "path: /healthz", "path: /healtz"),
    ("cluster.yaml", "httpGet: {path: /readyz, port: http}", "httpGet: {path: /readyz, port: htpp}"),
    ("cluster.yaml", "targetPort: cluster, protocol: UDP", "targetPort: cluster, protocol: TCP"),
    ("cluster.yaml", "targetPort: clients, protocol: UDP", "targetPort: client, protocol: UDP"),
    ("cluster.yaml", "containerPort: 8001, protocol: UDP", "containerPort: 8002, protocol: UDP"),
    ("cluster.yaml", "containerPort: 8000, protocol: TCP", "containerPort: 8080, protocol: TCP"),
    ("cluster.yaml", '"rmbd-cluster:8001"', '"rmbd-clusters:8001"'),
    ("cluster.yaml", '"rmbd-cluster:8001"', '"rmbd-cluster:8000"'),
    ("cluster.yaml", '"$(POD_IP):8001"', '"$(POD_IP):8000"'),
    ("cluster.yaml", "- name: POD_IP", "- name: PODIP"),
    ("cluster.yaml", "RMBD_DATA_DIR", "RMBD_DATADIR"),
    ("cluster.yaml", "value: /data}", "value: /dat}"),
    ("cluster.yaml", "- metadata: {name: data}", "- metadata: {name: dat}"),
    ("cluster.yaml", "- name: key\n        secret", "- name: keys\n        secret"),
    ("cluster.yaml", "configMap: {name: rmbd}", "configMap: {name: rmdb}"),
    ("cluster.yaml", "secretName: rmbd-cluster-key", "secretName: rmbd-key"),
    ("cluster.yaml", "/etc/rmbd/key/cluster.key", "/etc/rmbd/key/clusterkey"),
    ("cluster.yaml", "publishNotReadyAddresses: true", "publishNotReadyAddresses: false"),
    ("cluster.yaml", "  clusterIP: None\n", ""),
    ("cluster.yaml", "serviceName: rmbd-cluster", "serviceName: rmbd"),
    ("cluster.yaml", "podManagementPolicy: Parallel", "podManagementPolicy: OrderedReady"),
    ("cluster.yaml", "replicas: 3", 'replicas: "3"'),
    ("cluster.yaml", "readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false"),
    ("cluster.yaml", "runAsNonRoot: true", "runAsNonRoot: false"),
    ("cluster.yaml", 'amounts = ["5/60s"]', 'amount = ["5/60s"]'),
    ("cluster.yaml", "- {port: cluster, protocol: UDP}", "- {port: clusters, protocol: UDP}"),
    ("cluster.yaml", "  maxUnavailable: 1\n  selector:\n    matchLabels: {app.kubernetes.io/name: rmbd}",
     "  maxUnavailable: 1\n  selector:\n    matchLabels: {app.kubernetes.io/name: rmdb}"),
    ("cluster.yaml", "selector: {app.kubernetes.io/name: rmbd}", "selector: {app: rmbd}"),
    ("daemonset.yaml", "internalTrafficPolicy: Local", "internalTrafficPolicy: Locale"),
    ("daemonset.yaml", "- name: data\n        hostPath", "- name: date\n        hostPath"),
    ("daemonset.yaml", "updateStrategy:", "updateStrategies:"),
]


def documents(texts):
    return [document for text in texts for document in yaml.safe_load_all(text) if document]


class Objects:
    """Objects of one namespace, and what is wrong with them."""

    def __init__(self, objects, program):
        self.objects, self.program, self.wrong = objects, program, []

    def of(self, kind):
        return [it for it in self.objects if it["kind"] == kind]

    def named(self, kind, name):
        return next((it for it in self.of(kind) if it["metadata"]["name"] == name), None)

    def say(self, of, what):
        self.wrong.append(f'{of["kind"]} {of["metadata"]["name"]}: {what}')

    def check(self):
        names = [(it["kind"], it["metadata"]["name"]) for it in self.objects]
        for twice in {name for name in names if names.count(name) > 1}:
            self.wrong.append(f"{twice[0]} {twice[1]} is there twice")
        for it in self.objects:
            try:
                kubernetes_validate.validate(it, VERSION, strict=True)
            except kubernetes_validate.ValidationError as error:
                self.say(it, f'{".".join(map(str, error.path))}: {error.message}')
        if not self.wrong:
            self.check_services()
            for owner in self.of("StatefulSet") + self.of("DaemonSet"):
                self.check_owner(owner)
            self.check_policies()
            self.check_configuration()
        return self.wrong

    def templates(self, selector):
        owners = self.of("StatefulSet") + self.of("DaemonSet")
        labels = [(it, it["spec"]["template"]["metadata"]["labels"]) for it in owners]
        return [it for it, has in labels if selector.items() <= has.items()]

    @staticmethod
    def ports(owner):
        containers = owner["spec"]["template"]["spec"]["containers"]
        return [port for container in containers for port in container["ports"]]

    def check_services(self):
        for service in self.of("Service"):
            spec = service["spec"]
            owners = self.templates(spec["selector"])
            if not owners:
                self.say(service, "selects no pod")
            for owner in owners:
                for port in spec["ports"]:
                    wanted = (port["targetPort"], port.get("protocol", "TCP"))
                    if wanted not in [(it["name"], it["protocol"]) for it in self.ports(owner)]:
                        self.say(service, f"no container has the port {wanted}")

    def check_owner(self, owner):
        spec = owner["spec"]
        pod = spec["template"]["spec"]
        if not spec["selector"]["matchLabels"].items() <= spec["template"]["metadata"]["labels"].items():
            self.say(owner, "does not select its own pods")
        policies = [it["spec"].get("internalTrafficPolicy") for it in self.of("Service")]
        if owner["kind"] == "DaemonSet" and "Local" not in policies:
            self.say(owner, "no service keeps clients at the node of their own machine")
        if owner["kind"] == "StatefulSet" and spec.get("podManagementPolicy") != "Parallel":
            self.say(owner, "pods start one after the other, and the first may wait for the others")
        if not pod["securityContext"].get("runAsNonRoot"):
            self.say(owner, "may run as root")
        for container in pod["containers"]:
            self.check_container(owner, container)

    def check_container(self, owner, container):
        if not container["securityContext"].get("readOnlyRootFilesystem"):
            self.say(owner, "its root can be written")
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        for probe, path in PROBES.items():
            get = container.get(probe, {}).get("httpGet", {})
            if (get.get("path"), get.get("port")) != (path, "http"):
                self.say(owner, f"{probe} asks {get}, not for {path} at the port http")
        self.check_variables(owner, container, ports)
        self.check_volumes(owner, container)

    def check_variables(self, owner, container, ports):
        known = set(re.findall(r"\[env:\s+(RMBD_\w+)=", told(self.program, "--help")))
        values, before = {}, set()
        for variable in container["env"]:
            name, value = variable["name"], variable.get("value", "")
            for used in re.findall(r"\$\((\w+)\)", value):
                if used not in before:
                    self.say(owner, f"{name} is made of {used}, which is not there yet")
            if name.startswith("RMBD_") and name not in known:
                self.say(owner, f"rmbd knows no {name}")
            before.add(name)
            values[name] = value
        client, cluster = (values.get(name, ":").rpartition(":") for name in ("RMBD_ADDRESS", "RMBD_ADVERTISE"))
        if not {ports.get("clients"), ports.get("http")} == {int(client[2] or 0)}:
            self.say(owner, f"listens on {client[2]}, and its ports are {ports}")
        # The cluster's port is the one above the clients', where nothing else is said.
        if not ports.get("cluster") == int(cluster[2] or 0) == int(client[2] or 0) + 1:
            self.say(owner, f"tells others the port {cluster[2]}, and its ports are {ports}")
        host, _, port = values.get("RMBD_JOIN", ":").rpartition(":")
        service = self.named("Service", host)
        if service is None or int(port) not in [it["port"] for it in service["spec"]["ports"]]:
            self.say(owner, f"there is no service {host} with the port {port} to join by")
        elif (service["spec"].get("clusterIP"), service["spec"].get("publishNotReadyAddresses")) != ("None", True):
            self.say(owner, f"the service {host} does not tell the addresses of all pods, ready or not")
        if owner["kind"] == "StatefulSet" and owner["spec"]["serviceName"] != host:
            self.say(owner, "its service is another one than it joins by")
        mounts = [it["mountPath"] for it in container["volumeMounts"]]
        for name in ("RMBD_CONFIG", "RMBD_CLUSTER_KEY_FILE", "RMBD_DATA_DIR"):
            path = values.get(name, "")
            mount = next((it for it in mounts if path == it or path.startswith(it + "/")), None)
            if mount is None:
                self.say(owner, f"{name}={path} is in no volume")
            elif path != mount and path[len(mount) + 1:] not in self.files(owner, container, mount):
                self.say(owner, f"{name}={path}: there is no such file in the volume")

    def files(self, owner, container, path):
        mount = next(it for it in container["volumeMounts"] if it["mountPath"] == path)
        volumes = owner["spec"]["template"]["spec"]["volumes"]
        volume = next((it for it in volumes if it["name"] == mount["name"]), {})
        config = self.named("ConfigMap", volume.get("configMap", {}).get("name")) or {}
        secret = self.named("Secret", volume.get("secret", {}).get("secretName")) or {}
        return [*config.get("data", {}), *secret.get("stringData", {}), *secret.get("data", {})]

    def check_volumes(self, owner, container):
        pod = owner["spec"]["template"]["spec"]
        claims = [it["metadata"]["name"] for it in owner["spec"].get("volumeClaimTemplates", [])]
        volumes = [it["name"] for it in pod.get("volumes", [])] + claims
        mounted = [it["name"] for it in container["volumeMounts"]]
        for name in set(mounted) ^ set(volumes):
            self.say(owner, f"the volume {name} is mounted and not there, or there and not mounted")
        for volume in pod.get("volumes", []):
            for kind, field, key in (("ConfigMap", "configMap", "name"), ("Secret", "secret", "secretName")):
                if field in volume and self.named(kind, volume[field][key]) is None:
                    self.say(owner, f"there is no {kind} {volume[field][key]}")

    def check_policies(self):
        for policy in self.of("PodDisruptionBudget") + self.of("NetworkPolicy"):
            selector = policy["spec"].get("selector") or policy["spec"]["podSelector"]
            owners = self.templates(selector["matchLabels"])
            if not owners:
                self.say(policy, "selects no pod")
            for rule in policy["spec"].get("ingress", []):
                for port in rule["ports"]:
                    wanted = (port["port"], port["protocol"])
                    for owner in owners:
                        if wanted not in [(it["name"], it["protocol"]) for it in self.ports(owner)]:
                            self.say(policy, f"no container has the port {wanted}")

    def check_configuration(self):
        for config in self.of("ConfigMap"):
            complaint = complaint_of(self.program, config["data"]["rmbd.toml"])
            if complaint:
                self.say(config, complaint)


@functools.cache
def told(program, word):
    return subprocess.run([program, word], capture_output=True, text=True, check=True).stdout


@functools.cache
def complaint_of(program, text):
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
        file.write(text)
        file.flush()
        checked = subprocess.run([program, "config", "check", file.name], capture_output=True, text=True)
    return checked.stderr.strip() if checked.returncode else ""


def sets(texts):
    """What is applied together: the cluster, and its variant with a node on each machine."""
    cluster = documents([texts["cluster.yaml"]])
    shared = [it for it in cluster if (it["kind"], it["metadata"]["name"]) not in
              [("StatefulSet", "rmbd"), ("Service", "rmbd")] and it["kind"] != "PodDisruptionBudget"]
    return [cluster, shared + documents([texts["daemonset.yaml"]])]


def check(texts, program):
    return [line for objects in sets(texts) for line in Objects(objects, program).check()]


def main():
    words = sys.argv[1:]
    texts = {path.name: path.read_text() for path in HERE.glob("*.yaml")}
    if len(words) == 1:
        wrong = check(texts, words[0])
        print("\n".join(wrong) or f"{sum(map(len, sets(texts)))} objects are well")
        return 1 if wrong else 0
    if len(words) == 2 and words[0] == "--mutations":
        unseen = 0
        for file, before, after in MUTATIONS:
            assert before in texts[file], before
            found = check({**texts, file: texts[file].replace(before, after, 1)}, words[1])
            print(f"{file}, {after!r}: {found[0] if found else 'NOT FOUND'}")
            unseen += not found
        return 1 if unseen else 0
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
