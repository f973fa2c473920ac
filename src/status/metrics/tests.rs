#![allow(clippy::unwrap_used)]

use std::collections::{HashMap, HashSet};

use super::*;
use crate::status::testing::status;
use crate::status::{ClusterStatus, SnapshotFilesStatus};

/// A strict parser of the format, written from its specification and not from the encoder: every sample belongs to
/// the family above it, has the suffix of its type, and is unique.
fn parse(text: &str) -> HashMap<String, f64> {
    let mut samples = HashMap::new();
    let mut families = HashSet::new();
    let (mut family, mut kind) = (String::new(), String::new());
    let body = text.strip_suffix("# EOF\n").expect("the end mark");
    for line in body.lines() {
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        match words.as_slice() {
            ["#", "HELP", name, help] => {
                assert!(families.insert((*name).to_owned()), "{name} twice");
                assert!(!help.is_empty() && !help.contains('\\'), "{line}");
                family = (*name).to_owned();
                kind.clear();
            }
            ["#", "TYPE", name, of] => {
                assert_eq!(*name, family, "{line}");
                let known = ["counter", "gauge", "info", "histogram"];
                assert!(known.contains(of), "{line}");
                kind = (*of).to_owned();
            }
            ["#", "UNIT", name, unit] => {
                assert_eq!(*name, family, "{line}");
                assert!(name.ends_with(&format!("_{unit}")), "{line}");
                assert!(
                    ["seconds", "bytes"].contains(unit),
                    "not a base unit: {line}"
                );
            }
            _ => {
                let (series, value) = line.rsplit_once(' ').expect(line);
                let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
                let suffixes: &[&str] = match kind.as_str() {
                    "counter" => &["_total"],
                    "info" => &["_info"],
                    "histogram" => &["_bucket", "_sum", "_count"],
                    _ => &[""],
                };
                let suffix = name.strip_prefix(&*family);
                assert!(suffix.is_some_and(|it| suffixes.contains(&it)), "{line}");
                assert!(
                    name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'),
                    "{line}"
                );
                check_labels(labels.strip_suffix('}').expect(line));
                let value: f64 = value.parse().expect(line);
                assert!(value.is_finite() && value >= 0.0, "{line}");
                assert!(samples.insert(series.to_owned(), value).is_none(), "{line}");
            }
        }
    }
    samples
}

/// Checks labels. None of ours needs an escape, or has a comma in it.
fn check_labels(labels: &str) {
    if !labels.is_empty() {
        labels.split(',').for_each(check_label);
    }
}

fn check_label(labels: &str) {
    let (name, value) = labels.split_once('=').expect(labels);
    let known = [
        "version",
        "type",
        "reason",
        "hash",
        "backend",
        "thread",
        "state",
        "kind",
        "queue",
        "sketch",
        "window",
        "limit",
        "share",
        "rule",
        "operation",
        "le",
    ];
    assert!(known.contains(&name), "{labels}");
    let value = value
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
        .expect(labels);
    assert!(!value.contains(['"', '\\', '\n']), "{labels}");
}

#[test]
fn everything_in_the_status_has_its_number() {
    let samples = parse(&encode(&status()));
    let expected = [
        (r#"rmbd_build_info{version="1.2.3"}"#, 1.0),
        ("rmbd_ready", 1.0),
        ("rmbd_healthy", 1.0),
        (r#"rmbd_log_lines_missing_total{reason="dropped"}"#, 31.0),
        (r#"rmbd_log_lines_missing_total{reason="refused"}"#, 37.0),
        ("rmbd_uptime_seconds", 93_784.5),
        (r#"rmbd_messages_total{type="add"}"#, 48_211_904.0),
        (r#"rmbd_messages_total{type="count"}"#, 1_204_551.0),
        (r#"rmbd_messages_total{type="sync"}"#, 2_040.0),
        (r#"rmbd_messages_total{type="peer"}"#, 3.0),
        (r#"rmbd_messages_total{type="ack"}"#, 2_012.0),
        (r#"rmbd_messages_total{type="hit"}"#, 904_003.0),
        (r#"rmbd_messages_total{type="bounds"}"#, 21.0),
        (r#"rmbd_messages_total{type="info"}"#, 9.0),
        (r#"rmbd_messages_total{type="window"}"#, 77_003.0),
        ("rmbd_pardons", 50_003.0),
        (r#"rmbd_messages_total{type="limits"}"#, 40_010.0),
        (r#"rmbd_messages_total{type="hit_by_name"}"#, 5_002.0),
        (r#"rmbd_messages_total{type="pardon"}"#, 1.0),
        (r#"rmbd_messages_total{type="sketches"}"#, 4.0),
        (r#"rmbd_messages_total{type="top"}"#, 6.0),
        ("rmbd_compact_requests_total", 2_500_017.0),
        ("rmbd_compact_repeats_total", 44.0),
        ("rmbd_http_adds_total", 51.0),
        ("rmbd_http_counts_total", 52.0),
        ("rmbd_http_hits_total", 53.0),
        ("rmbd_http_takes_total", 54.0),
        ("rmbd_http_tops_total", 55.0),
        ("rmbd_http_checks_total", 56.0),
        ("rmbd_http_over_total", 57.0),
        ("rmbd_http_refused_total", 58.0),
        ("rmbd_http_failed_total", 59.0),
        ("rmbd_compact_once_clients", 12.0),
        ("rmbd_compact_once_clients_max", 65_536.0),
        ("rmbd_resp_commands_total", 700_001.0),
        ("rmbd_resp_protocol_errors_total", 52.0),
        ("rmbd_resp_wrong_passwords_total", 53.0),
        ("rmbd_resp_connections_accepted_total", 1_054.0),
        ("rmbd_resp_connections_not_allowed_total", 55.0),
        ("rmbd_resp_connections_without_place_total", 56.0),
        ("rmbd_resp_closed_by_client_total", 957.0),
        ("rmbd_resp_closed_by_node_total", 58.0),
        ("rmbd_resp_closed_idle_total", 59.0),
        ("rmbd_resp_closed_stalled_total", 60.0),
        ("rmbd_resp_closed_no_memory_total", 61.0),
        ("rmbd_resp_closed_failed_total", 62.0),
        ("rmbd_resp_closed_at_end_total", 63.0),
        ("rmbd_resp_connections", 51.0),
        ("rmbd_resp_connections_max", 1_024.0),
        ("rmbd_spoe_messages_total", 600_001.0),
        ("rmbd_spoe_over_total", 71.0),
        ("rmbd_spoe_refused_total", 72.0),
        ("rmbd_spoe_failed_total", 73.0),
        ("rmbd_spoe_health_checks_total", 74.0),
        ("rmbd_spoe_protocol_errors_total", 75.0),
        ("rmbd_spoe_connections_accepted_total", 76.0),
        ("rmbd_spoe_connections_not_allowed_total", 77.0),
        ("rmbd_spoe_connections_without_place_total", 78.0),
        ("rmbd_spoe_closed_idle_total", 79.0),
        ("rmbd_spoe_closed_stalled_total", 80.0),
        ("rmbd_spoe_connections", 12.0),
        ("rmbd_spoe_connections_max", 256.0),
        ("rmbd_envoy_requests_total", 800_001.0),
        ("rmbd_envoy_descriptors_total", 800_072.0),
        ("rmbd_envoy_over_total", 73.0),
        ("rmbd_envoy_unknown_domains_total", 74.0),
        ("rmbd_envoy_overrides_total", 75.0),
        ("rmbd_envoy_overrides_without_window_total", 76.0),
        ("rmbd_envoy_refused_total", 77.0),
        ("rmbd_envoy_failed_total", 78.0),
        ("rmbd_envoy_connections_accepted_total", 79.0),
        ("rmbd_envoy_connections_not_allowed_total", 80.0),
        ("rmbd_envoy_connections_without_place_total", 81.0),
        ("rmbd_envoy_values_left_out_total", 82.0),
        ("rmbd_envoy_connections", 71.0),
        ("rmbd_envoy_rules", 2.0),
        (r#"rmbd_envoy_rule_hits_total{rule="edge.user"}"#, 800_003.0),
        (r#"rmbd_envoy_rule_over_total{rule="edge.user"}"#, 83.0),
        (r#"rmbd_envoy_rule_near_total{rule="edge.user"}"#, 84.0),
        (r#"rmbd_envoy_rule_shadow_total{rule="edge.user"}"#, 85.0),
        ("rmbd_max_weight", 1_000.0),
        ("rmbd_datagrams_received_total", 5_511_002.0),
        (r#"rmbd_datagrams_malformed_total{reason="length"}"#, 17.0),
        (
            r#"rmbd_datagrams_malformed_total{reason="unknown_type"}"#,
            4.0,
        ),
        (r#"rmbd_datagrams_refused_total{reason="untrusted"}"#, 2.0),
        ("rmbd_datagrams_dropped_by_kernel_total", 128.0),
        ("rmbd_replies_sent_total", 133_839.0),
        ("rmbd_replies_dropped_total", 5.0),
        (r#"rmbd_sketch_info{hash="xxh3"}"#, 1.0),
        ("rmbd_sketch_width", 1_048_576.0),
        ("rmbd_sketch_depth", 4.0),
        ("rmbd_sketch_epsilon", std::f64::consts::E / 1_048_576.0),
        ("rmbd_sketch_confidence", 1.0 - (-4.0_f64).exp()),
        ("rmbd_sketch_memory_bytes", 33_554_432.0),
        ("rmbd_sketch_weight_total", 48_211_904.0),
        ("rmbd_sketch_incomplete", 1.0),
        (r#"rmbd_sketches_weight_total{sketch="default"}"#, 71.0),
        (r#"rmbd_sketches_weight_total{sketch="logins"}"#, 73.0),
        (
            r#"rmbd_sketch_error{sketch="default"}"#,
            72.0 * std::f64::consts::E / 1_048_576.0,
        ),
        (
            r#"rmbd_sketch_error{sketch="logins"}"#,
            74.0 * std::f64::consts::E / 1_048_576.0,
        ),
        (
            r#"rmbd_sketch_error_likely{sketch="default",share="0.5"}"#,
            8.0,
        ),
        (
            r#"rmbd_sketch_error_likely{sketch="default",share="0.9817"}"#,
            35.0,
        ),
        (
            r#"rmbd_sketch_error_likely{sketch="logins",share="0.5"}"#,
            9.0,
        ),
        (
            r#"rmbd_sketch_error_likely{sketch="logins",share="0.9817"}"#,
            36.0,
        ),
        (r#"rmbd_sketch_error_likely_mean{sketch="default"}"#, 17.75),
        (r#"rmbd_sketch_error_likely_mean{sketch="logins"}"#, 18.25),
        (
            r#"rmbd_sketch_audit_too_low_total{sketch="default"}"#,
            2_071.0,
        ),
        (
            r#"rmbd_sketch_audit_too_low_total{sketch="logins"}"#,
            2_073.0,
        ),
        (
            r#"rmbd_sketch_audit_missed_weight_total{sketch="default"}"#,
            1_071.0,
        ),
        (
            r#"rmbd_sketch_audit_missed_weight_total{sketch="logins"}"#,
            1_073.0,
        ),
        (
            r#"rmbd_sketch_audit_verdicts_total{sketch="default"}"#,
            5_071.0,
        ),
        (
            r#"rmbd_sketch_audit_verdicts_total{sketch="logins"}"#,
            5_073.0,
        ),
        (
            r#"rmbd_sketch_audit_verdicts_over_total{sketch="default"}"#,
            4_071.0,
        ),
        (
            r#"rmbd_sketch_audit_verdicts_over_total{sketch="logins"}"#,
            4_073.0,
        ),
        (
            r#"rmbd_sketch_audit_verdicts_wrong_total{sketch="default"}"#,
            3_071.0,
        ),
        (
            r#"rmbd_sketch_audit_verdicts_wrong_total{sketch="logins"}"#,
            3_073.0,
        ),
        (r#"rmbd_sketch_audit_keys{sketch="default"}"#, 968.0),
        (r#"rmbd_sketch_audit_keys{sketch="logins"}"#, 984.0),
        (r#"rmbd_sketch_audit_sampled{sketch="default"}"#, 0.015625),
        (r#"rmbd_sketch_audit_sampled{sketch="logins"}"#, 0.015625),
        (r#"rmbd_sketch_audit_error_mean{sketch="default"}"#, 4.4375),
        (r#"rmbd_sketch_audit_error_mean{sketch="logins"}"#, 4.5625),
        (r#"rmbd_sketch_audit_error_largest{sketch="default"}"#, 23.0),
        (r#"rmbd_sketch_audit_error_largest{sketch="logins"}"#, 24.0),
        (r#"rmbd_sketch_audit_above_epsilon{sketch="default"}"#, 0.25),
        (r#"rmbd_sketch_audit_above_epsilon{sketch="logins"}"#, 0.25),
        (
            r#"rmbd_sketch_audit_error{sketch="default",share="0.9817"}"#,
            11.0,
        ),
        (
            r#"rmbd_sketch_audit_error{sketch="logins",share="0.9817"}"#,
            12.0,
        ),
        (
            r#"rmbd_window_audit_keys{sketch="default",window="60000"}"#,
            1_536.0,
        ),
        (
            r#"rmbd_window_audit_keys{sketch="logins",window="60000"}"#,
            1_568.0,
        ),
        (
            r#"rmbd_window_audit_error_mean{sketch="default",window="60000"}"#,
            8.875,
        ),
        (
            r#"rmbd_window_audit_error_mean{sketch="logins",window="60000"}"#,
            9.125,
        ),
        (
            r#"rmbd_window_audit_error_largest{sketch="default",window="60000"}"#,
            47.0,
        ),
        (
            r#"rmbd_window_audit_error_largest{sketch="logins",window="60000"}"#,
            48.0,
        ),
        (
            r#"rmbd_window_audit_error{sketch="default",window="60000",share="0.9817"}"#,
            23.0,
        ),
        (
            r#"rmbd_window_audit_error{sketch="logins",window="60000",share="0.9817"}"#,
            24.0,
        ),
        (r#"rmbd_sketches_memory_bytes{sketch="default"}"#, 71_000.0),
        (r#"rmbd_sketches_memory_bytes{sketch="logins"}"#, 73_000.0),
        (
            r#"rmbd_window_weight{sketch="default",window="60000"}"#,
            500.0,
        ),
        (
            r#"rmbd_window_weight{sketch="logins",window="60000"}"#,
            7_000.0,
        ),
        (r#"rmbd_window_error{sketch="default",window="60000"}"#, 5.0),
        (r#"rmbd_window_error{sketch="logins",window="60000"}"#, 70.0),
        (r#"rmbd_sketch_top_keys{sketch="default",window="0"}"#, 60.0),
        (r#"rmbd_sketch_top_keys{sketch="logins",window="0"}"#, 62.0),
        (
            r#"rmbd_sketch_top_keys{sketch="default",window="60000"}"#,
            489.0,
        ),
        (
            r#"rmbd_sketch_top_keys{sketch="logins",window="60000"}"#,
            6_989.0,
        ),
        (
            r#"rmbd_sketch_top_keys_named{sketch="default",window="0"}"#,
            58.0,
        ),
        (
            r#"rmbd_sketch_top_keys_named{sketch="logins",window="0"}"#,
            60.0,
        ),
        (
            r#"rmbd_sketch_top_keys_named{sketch="default",window="60000"}"#,
            487.0,
        ),
        (
            r#"rmbd_sketch_top_keys_named{sketch="logins",window="60000"}"#,
            6_987.0,
        ),
        // Nothing is known of the lists of windows.
        (
            r#"rmbd_sketch_top_complete_above{sketch="default",window="0"}"#,
            54.0,
        ),
        (
            r#"rmbd_sketch_top_complete_above{sketch="logins",window="0"}"#,
            56.0,
        ),
        (
            r#"rmbd_sketch_top_certain{sketch="default",window="0"}"#,
            52.0,
        ),
        (
            r#"rmbd_sketch_top_certain{sketch="logins",window="0"}"#,
            54.0,
        ),
        (
            r#"rmbd_sketch_top_certain{sketch="default",window="60000"}"#,
            481.0,
        ),
        (
            r#"rmbd_sketch_top_certain{sketch="logins",window="60000"}"#,
            6_981.0,
        ),
        (
            r#"rmbd_sketch_top_weight{sketch="default",window="0"}"#,
            48.0,
        ),
        (
            r#"rmbd_sketch_top_weight{sketch="logins",window="0"}"#,
            50.0,
        ),
        (
            r#"rmbd_sketch_top_weight{sketch="default",window="60000"}"#,
            477.0,
        ),
        (
            r#"rmbd_sketch_top_weight{sketch="logins",window="60000"}"#,
            6_977.0,
        ),
        (r#"rmbd_limit_asked_total{limit="api"}"#, 101.0),
        (r#"rmbd_limit_over_total{limit="api"}"#, 103.0),
        (r#"rmbd_limit_near_total{limit="api"}"#, 107.0),
        (r#"rmbd_limit_unsure_total{limit="api"}"#, 109.0),
        (r#"rmbd_limit_shadow_total{limit="api"}"#, 113.0),
        (r#"rmbd_io_info{backend="uring"}"#, 1.0),
        ("rmbd_threads", 2.0),
        (r#"rmbd_thread_datagrams_total{thread="0"}"#, 2_755_000.0),
        (r#"rmbd_thread_datagrams_total{thread="1"}"#, 2_756_002.0),
        (r#"rmbd_thread_dropped_by_kernel_total{thread="0"}"#, 128.0),
        (r#"rmbd_thread_dropped_by_kernel_total{thread="1"}"#, 0.0),
        (r#"rmbd_thread_spinning_seconds_total{thread="0"}"#, 0.25),
        (r#"rmbd_thread_spinning_seconds_total{thread="1"}"#, 0.25),
        (
            r#"rmbd_thread_receive_buffer_bytes{thread="0"}"#,
            8_388_608.0,
        ),
        (
            r#"rmbd_thread_receive_buffer_bytes{thread="1"}"#,
            8_388_608.0,
        ),
        ("rmbd_snapshot_file_enabled", 1.0),
        ("rmbd_snapshot_file_age_seconds", 61.5),
        ("rmbd_snapshot_file_overdue", 1.0),
        ("rmbd_snapshot_file_duration_seconds", 0.75),
        ("rmbd_snapshot_file_size_bytes", 9_437_184.0),
        ("rmbd_snapshot_files_written_total", 127.0),
        ("rmbd_snapshot_files_unchanged_total", 131.0),
        ("rmbd_snapshot_files_failed_total", 137.0),
        ("rmbd_snapshot_files_set_aside", 2.0),
        ("rmbd_cluster_enabled", 1.0),
        ("rmbd_cluster_ready", 1.0),
        (r#"rmbd_cluster_members{state="alive"}"#, 2.0),
        (r#"rmbd_cluster_members{state="suspect"}"#, 0.0),
        (r#"rmbd_cluster_members{state="down"}"#, 1.0),
        ("rmbd_cluster_one_way", 1.0),
        ("rmbd_cluster_rounds_total", 70_001.0),
        ("rmbd_cluster_name_open", 1.0),
        (r#"rmbd_cluster_new_writer{reason="same_writer"}"#, 0.0),
        (r#"rmbd_cluster_new_writer{reason="later_version"}"#, 0.0),
        (r#"rmbd_cluster_new_writer{reason="other_cells"}"#, 1.0),
        (r#"rmbd_cluster_new_writer{reason="unanswered"}"#, 0.0),
        (r#"rmbd_cluster_new_writer{reason="unasked"}"#, 0.0),
        ("rmbd_cluster_shared_nodes", 1.0),
        ("rmbd_cluster_datagrams_sent_total", 140_002.0),
        ("rmbd_cluster_datagrams_received_total", 150_003.0),
        (
            r#"rmbd_cluster_sent_bytes_total{kind="cells"}"#,
            5_000_001.0,
        ),
        (r#"rmbd_cluster_sent_bytes_total{kind="digest"}"#, 70_007.0),
        (
            r#"rmbd_cluster_received_bytes_total{kind="cells"}"#,
            6_000_002.0,
        ),
        ("rmbd_cluster_resends_total", 31.0),
        ("rmbd_cluster_urgent_full_rounds_total", 32.0),
        (r#"rmbd_cluster_refused_total{reason="forged"}"#, 19.0),
        (
            r#"rmbd_cluster_queue_received_total{queue="members"}"#,
            150_003.0,
        ),
        (
            r#"rmbd_cluster_queue_received_total{queue="strangers"}"#,
            19.0,
        ),
        (r#"rmbd_cluster_queue_refused_total{queue="members"}"#, 0.0),
        (
            r#"rmbd_cluster_queue_refused_total{queue="strangers"}"#,
            18.0,
        ),
        (
            r#"rmbd_cluster_dropped_by_kernel_total{queue="members"}"#,
            0.0,
        ),
        (
            r#"rmbd_cluster_dropped_by_kernel_total{queue="strangers"}"#,
            23.0,
        ),
        (r#"rmbd_cluster_flood_pauses_total{queue="members"}"#, 0.0),
        (
            r#"rmbd_cluster_flood_pauses_total{queue="strangers"}"#,
            29.0,
        ),
        ("rmbd_cluster_lag_versions", 6.0),
        ("rmbd_cluster_lag_seconds", 1.25),
        ("rmbd_cluster_convergence_age_seconds", 1.5),
        ("rmbd_cluster_other_sketch", 1.0),
        ("rmbd_cluster_slices", 3.0),
        ("rmbd_cluster_slices_refused", 1.0),
        ("rmbd_peers", 2.0),
        ("rmbd_peers_pushing", 1.0),
        ("rmbd_peers_rows_sent", 2_016.0),
        ("rmbd_peers_rows_acked", 2_012.0),
        ("rmbd_peers_rows_received", 2_040.0),
        ("rmbd_peers_restarts", 1.0),
    ];
    for (series, value) in expected {
        assert_eq!(samples.get(series), Some(&value), "{series}");
    }
    let process = ["process_cpu_seconds_total", "process_resident_memory_bytes"];
    for series in process {
        assert!(samples[series] > 0.0, "{series}");
    }
    // Their own test has them.
    let latency = samples.keys().filter(|it| it.starts_with("rmbd_latency_"));
    assert_eq!(
        samples.len() - latency.count(),
        expected.len() + process.len(),
        "a sample without expectation"
    );
}

/// Buckets say how many took at most so long, and have the same ends for all kinds.
#[test]
fn latencies_are_histograms_of_octaves() {
    let samples = parse(&encode(&status()));
    for (operation, steps) in [
        ("count", &[(0.0, 5.0), (2e-6, 12.0), (256e-6, 23.0)][..]),
        ("resp", &[(0.0, 0.0), (2e-6, 3.0), (f64::INFINITY, 5.0)]),
    ] {
        let label = format!("operation=\"{operation}\"");
        let of_kind = samples.iter().filter(|(series, _)| series.contains(&label));
        let mut buckets: Vec<(f64, f64)> = of_kind
            .filter_map(|(series, count)| {
                let (_, rest) = series.split_once("le=\"")?;
                let (end, _) = rest.split_once('"')?;
                Some((end.parse().unwrap(), *count))
            })
            .collect();
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        let ends = (0..=20).map(|octave| f64::from(1 << octave) / 1e6);
        let expected: Vec<(f64, f64)> = ends
            .chain([f64::INFINITY])
            .map(|end| (end, steps.iter().rfind(|(from, _)| *from <= end).unwrap().1))
            .collect();
        assert_eq!(buckets, expected, "{operation}");
        let (sum, count) = ["sum", "count"]
            .map(|name| samples[&format!("rmbd_latency_seconds_{name}{{{label}}}")])
            .into();
        assert_eq!((sum, count), (count / 1024.0, steps.last().unwrap().1));
    }
}

#[test]
fn no_address_is_in_it() {
    let text = encode(&status());
    for peer in status().peers {
        assert!(!text.contains(&peer.address), "{}", peer.address);
    }
    let new_writer = status().cluster.new_writer.unwrap();
    let known = [new_writer.by.unwrap(), new_writer.before, new_writer.detail];
    let shared = status().cluster.shared_nodes.remove(0);
    for private in known.iter().chain([&shared.detail, &shared.node]) {
        assert!(!text.contains(private), "{private}");
    }
    for member in status().cluster.members {
        for private in [&member.address, &member.node, &member.boot] {
            assert!(!text.contains(private), "{private}");
        }
    }
}

#[test]
fn a_node_that_has_done_nothing_has_valid_metrics_too() {
    let mut empty = status();
    empty.messages = Messages::default();
    empty.datagrams = Datagrams::default();
    empty.io.threads.clear();
    empty.peers.clear();
    empty.cluster = ClusterStatus::default();
    empty.snapshot_files = SnapshotFilesStatus::default();
    empty.latencies.clear();
    empty.ready = false;
    let samples = parse(&encode(&empty));
    assert_eq!(samples["rmbd_ready"], 0.0);
    assert_eq!(samples["rmbd_cluster_ready"], 0.0);
    empty.failure = Some("it ended".to_owned());
    assert_eq!(parse(&encode(&empty))["rmbd_healthy"], 0.0);
    assert!(!samples.contains_key("rmbd_cluster_convergence_age_seconds"));
    assert!(!samples.keys().any(|it| it.contains("latency")));
    let of_files = samples.keys().filter(|it| it.contains("snapshot_file"));
    assert_eq!(of_files.collect::<Vec<_>>(), ["rmbd_snapshot_file_enabled"]);
    assert_eq!(samples["rmbd_messages_total{type=\"add\"}"], 0.0);
    assert_eq!(samples["rmbd_peers_rows_sent"], 0.0);
}

#[test]
fn sums_end_at_their_end() {
    let mut huge = status();
    huge.peers
        .iter_mut()
        .for_each(|peer| peer.rows_sent = u64::MAX);
    assert_eq!(
        parse(&encode(&huge))["rmbd_peers_rows_sent"],
        u64::MAX as f64
    );
}

#[test]
fn cpu_time_grows_with_work() {
    let before = Process::now().cpu_s;
    let mut sum = 0_u64;
    while Process::now().cpu_s <= before {
        sum = std::hint::black_box(sum.wrapping_add(1));
    }
    assert!(Process::now().cpu_s > before);
}
