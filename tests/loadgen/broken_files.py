"""Trace files of every row format, drawn with cells, lines and line ends of which some are broken."""

from collections.abc import Callable, Sequence

from hypothesis import strategies as st

COUNTS = "1 22 333 2147483647 0 -0 007 0x1F"
ODD_COUNTS = [" 7", "7\t", '"7"', '" 7"', "0" * 40 + "7", "0X0000001f"]
NOT_COUNTS = "-1 1.5 NaN inf null 1e3 1e400 1000000000000 2147483648 +5 1_000 ٣ 0x 0x123456789 --1 5\0 '5' 5.0 []"
MORE_NOT_COUNTS = [
    "",
    " ",
    "1 2",
    "1,5",
    "9" * 40,
    "\xa05",
    "\u20285",
    '"',
    '"5',
    '5"',
    '""',
    "\udcff",
    '"5"6',
    "5\x0b",
]
NOT_TIMES = ["", "nan", "-inf", "-0.5", "1e400", "1e16", "0x10", "1_0", "yesterday", "1.2.3", "٣", "e5", ".", "\0", '"']
TEXTS = [
    "",
    "ChatGPT",
    "GPT-4",
    "unknown",
    "模型",
    " a ",
    '"a,b"',
    '"a""b"',
    '""',
    "\x0b\x1c",
    "\u2028",
    "\0",
    "x" * 70,
]
ODD_TEXTS = ["\udcff", '"', '"a', 'a"b', '"a"b', "\udced\udca0\udc80", "a,b"]
LOG_TYPES = ["Conversation log", "API log", "API log", '"API log"', "api log", "API log ", "", "Log", '"API log']
JSON_VALUES = [
    "0",
    "-0",
    "1",
    "511",
    "513",
    "2147483647",
    "2147483648",
    "-1",
    "1.0",
    "1.5",
    "1e3",
    "1e400",
    "true",
    "null",
]
MORE_JSON_VALUES = [
    '"5"',
    "[]",
    "[1]",
    "{}",
    "NaN",
    "Infinity",
    "-",
    "01",
    "9" * 40,
    "1" + "0" * 18,
    '"\udcff"',
    "[[" * 500,
]
HASH_IDS = [
    "[]",
    "[1]",
    "[1, 2]",
    "null",
    "[-1]",
    "[9223372036854775807]",
    "[9223372036854775808]",
    "[1.0]",
    '["1"]',
    "[null]",
]
MORE_HASH_IDS = ["[true]", "[[1]]", "{}", "5", '""', "[1,]", "[" + "1," * 300 + "1]", "[" * 1100 + "]" * 1100]
LINES = [
    " ",
    "\t",
    '"',
    ",",
    ",,",
    ",,,,,,,",
    "{",
    "{}",
    "[]",
    "null",
    "\0",
    "\x1a",
    "\udcff\udcfe",
    "x" * 70,
    "{}" * 2,
]
LINE_ENDS = [b"\n", b"\r\n", b"\r"]
counts = st.sampled_from([*COUNTS.split(), *ODD_COUNTS])
not_counts = st.sampled_from([*NOT_COUNTS.split(), *MORE_NOT_COUNTS])
any_counts = st.integers(0, 9).flatmap(lambda place: not_counts if place == 0 else counts)
texts = st.sampled_from(TEXTS * 3 + ODD_TEXTS)
json_values = st.sampled_from(JSON_VALUES[:6] * 4 + JSON_VALUES + MORE_JSON_VALUES)


def ladder(unit: Callable[[int], str]) -> st.SearchStrategy[str]:
    """Times near each other, so that some are equal and some go backward."""
    return st.integers(0, 40).map(unit)


number_times = st.one_of(
    *[ladder(unit) for unit in (str, lambda n: f"{n}.5", lambda n: f" {n}e0", lambda n: f"{86_390 + n}")] * 3,
    st.sampled_from(["1e15", "999999999999999.9", "1e-400", "+5", "-0", "5.", ".5", '"7"', *NOT_TIMES]),
)
naive_times = st.one_of(
    *[ladder(unit) for unit in (lambda n: f"2023-11-16 18:15:{n:02}", lambda n: f"2023-11-16T18:15:20.{n:07}")] * 4,
    st.sampled_from(["1677-09-22 00:00:00", "2262-04-11 23:00:00.1", "2262-04-12 00:00:00", "2500-01-01 00:00:00"]),
    st.sampled_from(["2023-02-29 00:00:00", "2023-11-16 24:00:00", "2023-11-16 18:15:46Z", "1e9", *NOT_TIMES]),
)
zoned_times = st.one_of(
    *[ladder(unit) for unit in (lambda n: f"2024-05-10 00:00:{n:02}+00:00", lambda n: f"2024-05-10 00:00:20.{n:06}Z")]
    * 4,
    ladder(lambda n: f"2024-05-10 05:30:{n:02}+05:30"),
    st.sampled_from(["2024-05-10 00:00:00", "2024-05-10 00:00:00.1234567891Z", "0000-01-01 00:00:00Z", *NOT_TIMES]),
)
BURSTGPT_1 = {
    "Timestamp": number_times,
    "Model": texts,
    "Request tokens": any_counts,
    "Response tokens": any_counts,
    "Total tokens": texts,
    "Log Type": st.sampled_from(LOG_TYPES[:4] * 4 + LOG_TYPES),
}
BURSTGPT_2 = {"Session ID": texts, "Elapsed time": st.one_of(st.just(""), number_times)} | BURSTGPT_1
CSV_FORMATS: list[dict[str, st.SearchStrategy[str]]] = [
    BURSTGPT_1,
    BURSTGPT_2,
    *({"TIMESTAMP": t, "ContextTokens": any_counts, "GeneratedTokens": any_counts} for t in (naive_times, zoned_times)),
]


@st.composite
def csv_lines(draw: st.DrawFn, formats: Sequence[dict[str, st.SearchStrategy[str]]] = CSV_FORMATS) -> list[str]:
    """A header in any order with some further columns, and rows of which most are good."""
    columns = dict(draw(st.sampled_from(formats)))
    columns |= dict.fromkeys(draw(st.sampled_from([[], [], ["note"], ["", "note"]])), texts)
    names = draw(st.permutations(list(columns))) if draw(st.booleans()) else list(columns)
    header = [f'"{name}"' if draw(st.integers(0, 20)) == 0 else name for name in names]
    rows = draw(st.lists(st.tuples(*(columns[name] for name in names)), min_size=1, max_size=12))
    return [",".join(header), *(",".join(row) for row in rows)]


@st.composite
def json_lines(draw: st.DrawFn) -> list[str]:
    """Objects of which most are good rows."""
    keys = ["timestamp", "input_length", "output_length", "hash_ids", "chat_id"]
    values = [st.one_of(ladder(str), ladder("{}.25".format), json_values), json_values, json_values]
    values += [
        st.sampled_from(HASH_IDS[:5] * 6 + HASH_IDS + MORE_HASH_IDS),
        st.sampled_from(['"a"', "5", '{"a": [1]}', "-"]),
    ]
    first = '{"timestamp": 20, "input_length": 600, "output_length": 5, "hash_ids": [1, 2]}'
    rows = [first]
    for row in draw(st.lists(st.tuples(*values), max_size=12)):
        shown = draw(
            st.sampled_from([[0, 1, 2, 3]] * 6 + [[0, 1, 2], [2, 3, 4, 1, 0], [0, 1], [0, 1, 2, 0], [3, 3, 0, 1, 2]])
        )
        text = "{" + ", ".join(f'"{keys[place]}": {row[place]}' for place in shown) + "}"
        rows.append(
            draw(st.sampled_from([text] * 12 + [text + " ", "\t" + text, text * 2, text[:-1], text[1:], f"[{text}]"]))
        )
    return rows


@st.composite
def files(draw: st.DrawFn) -> bytes:
    """A file whose first line tells its format, whatever stands below it."""
    texts = draw(st.one_of(csv_lines(), json_lines()))
    for line in draw(st.lists(st.sampled_from(LINES), max_size=2)) if draw(st.booleans()) else []:
        texts.insert(draw(st.integers(1, len(texts))), line)
    ends = draw(st.sampled_from([[b"\n"]] * 6 + [[b"\r\n"]] * 2 + [[b"\r"], LINE_ENDS]))
    data = draw(st.sampled_from([b""] * 6 + [b"\xef\xbb\xbf"]))
    for place, text in enumerate(texts):
        blanks = draw(st.sampled_from([1] * 9 + [2])) if place < len(texts) - 1 else draw(st.integers(0, 2))
        data += text.encode(errors="surrogateescape") + b"".join(draw(st.sampled_from(ends)) for _ in range(blanks))
    return data
