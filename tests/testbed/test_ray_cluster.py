"""Ray's harmless notices are kept from the terminal, all else is not."""

import io

from testbed.ray_cluster import HARMLESS_NOTICES, _WithoutNotices


def test_a_notice_is_dropped_with_the_end_of_its_line_and_the_rest_passes() -> None:
    shown = io.StringIO()
    stream = _WithoutNotices(shown)
    print("(raylet) out of memory", file=stream)
    print(f"(raylet) WARNING: 8 {HARMLESS_NOTICES[0]}: x", file=stream)
    print(file=stream)
    print("done", file=stream)
    assert shown.getvalue() == "(raylet) out of memory\n\ndone\n"
