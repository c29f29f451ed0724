import json
import time

import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from shared_data import DATASETS

from curate.screen.pii import RedactConfig, kinds_in, mask_personal, personal_kinds, redact_pairs, redact_texts

HELD = {
    "email": [
        "Write to jane.doe@gmail.com today.",
        "o'brien_7@mail.co.uk",
        "<a.b+c@uni-bonn.de>",
        "mailto:max@web.de?x=1",
    ],
    "phone": [
        "Call (415) 867-5309.",
        "415-867-5309",
        "+14158675309",
        "1-415-867-5309",
        "415.867.5309",
        "+44 20 7183 4967",
        "+49 (0)30 901820",
        "06 12 98 45 67",
        "020 7123 4561",
        "(02) 9374 4000",
        "0412 345 987",
        "090-1790-1357",
        "手机: 13812945679",
        "Phone: 4158675309",
        "my phone number is 867-5309",
        "tel. 0171 3956781",
        "+91 98765 43210",
        "room 5 415-867-5309 24 hours",
        "Jo Doe - 415-867-5309",
    ],
    "card_number": [
        "4539 1488 0343 6467",
        "4539148803436467",
        "3782-822463-10005",
        "5555555555554444",
        "6011 1111 1111 1117",
        "Visa card 4222222222222",
        "3530111333300000",
    ],
    "ip_address": [
        "Blocked 84.17.44.201 yesterday.",
        "http://84.17.44.201:8080/x",
        "2a02:908:1234:5678::1",
        "ping 2001:4860:4860::8844.",
        "ip address 5.6.7.9",
    ],
    "api_key": [
        "sk-proj-Ab3dEf6hIj9kLm2nOp5qRs8t",
        "AKIAQWERTZUI1234ABCD",
        "ghp_Ab3dEf6hIj9kLm2nOp5qRs8tUv1wXy4z7890",
        "hf_AbCdEfGhIjKlMnOpQrStUvWxYz12345678",
        "AIzaSyA1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q",
        "xoxb-123456789012-abcdefGHIJKL",
        "sk_" + "live_51Habcdefghijklmnop",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NSJ9.abcDEF123_-xyz789",
        "-----BEGIN RSA PRIVATE KEY-----\nMIIEowIBAAKCAQEA1234abcd\nxyzABC+/==\n-----END RSA PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----\nMIIEowIBAAKCAQEA1234abcd and then it was cut",
    ],
}
NOBODYS = [
    "jane@example.com",
    "name@yourdomain.com",
    "logo@2x.png",
    "git@github.com:a/b",
    "(212) 555-0142",
    "(555) 123-4567",
    "1-800-273-8255",
    "123-456-7890",
    "In 1998 2003 2015",
    "1914-1918 and 1939-1945",
    "$1 250 000 000",
    "ISBN 978-3-16-148410-0",
    "0-306-40615-2",
    "2024-01-15 14:30:00",
    "15.01.2024",
    "order 48291734",
    "3.14159265358979",
    "version 10.0.19045.3086",
    "v1.2.3.4",
    "section 4.3.2.1",
    "192.168.1.1, 127.0.0.1 and 203.0.113.7",
    "1.3.6.1.4.1",
    "std::vector<int> a::b",
    "00:1A:2B:3C:4D:5E",
    "2001:db8::1 fe80::1",
    "4539 1488 0343 6468",
    "1646615806005 =\n4212883012996",
    "sk-xxxxxxxxxxxxxxxxxxxxxxxx",
    "AKIAIOSFODNN7EXAMPLE",
    "01 02 03 04 05",
    "10 20 30 40 50 60 70",
    "task-force-management-system-2024a",
    "123e4567-e89b-12d3-a456-426614174000",
    "1700000000000",
    "100-200-3000",
    "his phone can hold 10800-2500=8300",
    '{"text":"91480041"}',
    "-----BEGIN PRIVATE KEY-----",
    "123-45-6789",
]


@pytest.mark.parametrize(("kind", "text"), [(kind, text) for kind, texts in HELD.items() for text in texts])
def test_each_kind_is_found_and_is_gone_when_masked(kind, text):
    assert kinds_in(text) == [kind]

    assert f"[{kind}]" in mask_personal(text)
    assert kinds_in(mask_personal(text)) == []


@pytest.mark.parametrize("text", NOBODYS)
def test_what_belongs_to_nobody_is_let_be(text):
    assert kinds_in(text) == []
    assert mask_personal(text) == text


def test_no_texts_nulls_and_empty_texts_hold_nothing():
    empty, texts = pl.Series("text", [], dtype=pl.String), pl.Series("text", [None, "", "🙂 مرحبا"])

    assert personal_kinds(empty).to_list() == []
    assert redact_texts(empty).to_list() == []
    assert personal_kinds(texts).to_list() == [[], [], []]
    assert redact_texts(texts).to_list() == [None, "", "🙂 مرحبا"]


def test_kinds_come_in_the_order_of_their_names_and_once():
    texts = pl.Series(["84.17.44.201, 415-867-5309, a@b-c.org, d@b-c.org", "nothing"])

    assert personal_kinds(texts).to_list() == [["email", "phone", "ip_address"], []]


def test_all_turns_and_both_responses_are_redacted_and_ids_stay(make_pairs):
    turns = [
        {"role": "user", "content": "I am max@web.de."},
        {"role": "assistant", "content": "Hello."},
        {"role": "user", "content": "Call 415-867-5309."},
    ]
    pairs = make_pairs(messages=[turns, turns[:1]], chosen=["max@web.de?", "Hi."], rejected=["No.", "84.17.44.201"])

    redacted = redact_pairs(pairs, RedactConfig()).rows

    told = [[turn["content"] for turn in messages] for messages in redacted["messages"].to_list()]
    assert told == [["I am [email].", "Hello.", "Call [phone]."], ["I am [email]."]]
    assert redacted["chosen"].to_list() == ["[email]?", "Hi."]
    assert redacted["rejected"].to_list() == ["No.", "[ip_address]"]
    assert redacted["pair_id"].to_list() == pairs["pair_id"].to_list()
    assert redacted.schema == pairs.schema


def test_a_call_of_a_tool_stays_json_where_a_number_is_replaced(make_pairs):
    note = r"phone: 415-867-5309, \"home\", or\nann@mail.dev, \\\tbob@mail.dev"
    call = f'[{{"name": "dial", "arguments": {{"phone": 4158675309, "note": "{note}"}}}}]'
    turns = [{"role": "user", "content": "Call me."}, {"role": "tool_call", "content": call}]
    pairs = make_pairs(messages=[turns])

    redacted = redact_pairs(pairs, RedactConfig()).rows

    arguments = json.loads(redacted["messages"].to_list()[0][1]["content"])[0]["arguments"]
    assert arguments == {"phone": "[phone]", "note": 'phone: [phone], "home", or[email], \\[email]'}


def test_no_pairs_give_no_pairs(make_pairs):
    pairs = make_pairs(prompt=["x"]).clear()

    assert redact_pairs(pairs, RedactConfig()).rows.equals(pairs)


PIECES = [text for texts in HELD.values() for text in texts] + NOBODYS + [" ", "-", ".", "1", "+", "(", "@", "a", "\n"]


@given(st.lists(st.sampled_from(PIECES), max_size=6).map("".join))
@example("84.17.44.201.84.17.44.201@a.de")
def test_redacted_text_holds_nothing_more_and_stays_as_it_is(text):
    once = redact_texts(pl.Series([text]))

    assert personal_kinds(once).to_list() == [[]]
    assert redact_texts(once).equals(once)


@given(st.lists(st.text(alphabet="0123456789 .-+()@:abcdefsk_/=\n", max_size=60), max_size=5))
def test_a_column_says_the_same_as_its_texts_one_by_one(texts):
    column = pl.Series(texts, dtype=pl.String)

    assert personal_kinds(column).to_list() == [kinds_in(text) for text in texts]
    assert redact_texts(column).to_list() == [mask_personal(text) for text in texts]


@pytest.mark.parametrize("piece", ["1", "1 2", "1.2.3.", "a@", "a@a.", "2001:db8:", "(1)", "eyJaaaaaaaaaa.", "+1(2)3"])
def test_a_text_of_a_million_signs_does_not_crawl(piece):
    started = time.process_time()

    mask_personal(piece * (1_000_000 // len(piece)))

    assert time.process_time() - started < 5


@pytest.mark.skipif(not DATASETS.exists(), reason="the shared datasets are not here")
def test_a_resume_among_real_prompts_is_found_and_few_others():
    pairs = pl.read_parquet(DATASETS / "ultrafeedback_pairs.parquet")

    kinds = personal_kinds(pairs.select(pl.concat_str("prompt", "chosen", "rejected", separator="\n\n")).to_series())

    found = pairs.select("prompt").with_columns(kinds=kinds).filter(pl.col("kinds").list.len() > 0)
    assert found.filter(pl.col("prompt").str.contains("Resume"))["kinds"].to_list() == [["email", "phone"]]
    assert found.height == 3


def test_redacting_leaves_the_texts_of_the_caller_as_they_are():
    texts = pl.Series(["Write to jane@harbour.org."])

    assert redact_texts(texts).to_list() == ["Write to [email]."]
    assert texts.to_list() == ["Write to jane@harbour.org."]
