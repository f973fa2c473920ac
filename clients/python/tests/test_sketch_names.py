"""Numbers of names, as the server and the reference implementation have them."""

from __future__ import annotations

import unittest

from rmbd._names import sketch_number, xxh3_64

HASHES = """
    e6c632b61e964e1f 3a6dd033830eea1e 7ea47a004f34273c a02b1fe01d5e8c68
    6ed62fa163828e19 0a10ae420f6dcb01 7f8537ee69c19efd ae512ee33cb829a3
    8a413b4d39e87b1d 600d8ceed4fb3c3c eb41ab83c2f3cf93 fca66e7a4c58329d
    c9c32840a6adf55e 42ea878e3d077c65 031f5db6fd896e67 dfd4b837b7921abf
    93e37276a1b3d25e 558c210771e242d3 59e439772b1e44f8 be45c82877038bd9
    c6f1ef401312e6cd 64f6b4e0f2c95409 c1f6bfc7cf25e64c 09e6183cf69284b0
    936f0faa12985d91 51d2b661d5694868 7aaac98b7d60927b 79eabd3a21c34c2e
    8115da90ea4a6d25 ce3821d05f929bb3 f68c9afc3cb35f14 9e944f124f567af0
    1b937113ce5b010a ec97fb29516a3e9b 0e951d95287254de df480fc94d429582
    d803639bbba02ff4 7b1ce0c2c5a0c229 ae960f42a7803dc1 75c68cf3abaf396c
    9d302621f0a02d77 ba3552ef3c2f8035 e0535a298a62bf35 cb7d43941074f578
    87b3926e452dbd5e e683a1b86fda6a64 0b8adf06d3ca1a35 56dbafe8ef31e326
    142be51de577822b 075a0ecdcd125fcf 83c7d09beb07e66c 33a966076d40b043
    7bc34b893da315b1 4241217eee8dce03 a81ecb84d2aec18b 598693019d86d8f2
    0634e0d1ca527640 10ab0b7fffea4016 e938ef5f38cce4a0 cda8fb5190bd935d
    1c1fae012d7df164 c8fd87f8a4246fd2 9700be1822c62231 bef582cbcf46a82a
""".split()
"""XXH3-64 of the first 1 to 64 letters of `LETTERS`, as `xxhsum -H3` says."""

LETTERS = bytes(97 + n * 7 % 26 for n in range(64))


class SketchNames(unittest.TestCase):
    def test_hashes_of_all_lengths(self) -> None:
        self.assertEqual(len(HASHES), 64)
        for length, expected in enumerate(HASHES, start=1):
            self.assertEqual(f"{xxh3_64(LETTERS[:length]):016x}", expected, length)
        for length in (0, 65):
            with self.assertRaises(ValueError):
                xxh3_64(bytes(length))

    def test_numbers_are_the_servers(self) -> None:
        for name, number in (
            ("default", 0),
            ("logins", 0x991095A9),
            ("a", 0xE6C632B6),
            ("pages", 0xC431ECA1),
            ("an-api-with-a-name-of-more-than-16-bytes", 0x6EC89B9F),
        ):
            self.assertEqual(sketch_number(name), number)

    def test_other_names_are_refused(self) -> None:
        for name in ("", "x" * 65, "Logins", "a b", "a/b", "l\u00f6gins", "\u0663", "a\n"):
            with self.assertRaises(ValueError, msg=name):
                sketch_number(name)


if __name__ == "__main__":
    unittest.main()
