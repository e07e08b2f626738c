//! The shapes of answers, one rule per test.

use super::*;
use crate::command::{Value, ValueRef as V};

const ASSOCIATIVE: EncodeOptions = EncodeOptions { associative: true, ..PLAIN };
const TIMED: EncodeOptions = EncodeOptions { timings: true, ..PLAIN };
const PLAIN: EncodeOptions =
    EncodeOptions { associative: false, timings: false, blob_array: false, pretty: false, bytes_max: 1 << 20 };

fn columns(of: &[(&str, &str)]) -> Vec<Column> {
    of.iter().map(|(name, t)| Column { name: (*name).to_owned(), decl_type: (*t).to_owned() }).collect()
}

fn rows(encoder: &mut ResultEncoder, of: &[(&str, &str)], rows: &[&[V<'_>]]) {
    encoder.begin_rows(&columns(of));
    for row in rows {
        encoder.row(row).expect("room");
    }
    encoder.end_rows(0.5);
}

/// The answer to one call of `feed`; checks on the way that `pretty` says the same.
fn answer(options: EncodeOptions, feed: impl Fn(&mut ResultEncoder)) -> String {
    let encode = |options| {
        let mut encoder = ResultEncoder::new(options);
        feed(&mut encoder);
        String::from_utf8(encoder.finish(&ResponseTail::default())).expect("UTF-8")
    };
    let compact = encode(options);
    let pretty = encode(EncodeOptions { pretty: true, ..options });
    assert_eq!(pretty.as_bytes(), super::super::indent(compact.as_bytes()));
    serde_json::from_str::<serde_json::Value>(&compact).expect("valid JSON");
    compact
}

/// One column, one row.
fn value(options: EncodeOptions, decl_type: &str, value: V<'_>) -> String {
    let whole = answer(options, |e| rows(e, &[("c", decl_type)], &[&[value]]));
    let (_, rest) = whole.split_once("\"values\":[[").expect("one row");
    rest.strip_suffix("]]}]}").expect("one value").to_owned()
}

#[test]
fn rows_in_the_default_form() {
    let of = [("id", "integer"), ("name", "text"), ("id", "")];
    let some = answer(PLAIN, |e| rows(e, &of, &[&[V::Integer(1), V::Text(b"a"), V::Null], &[V::Null; 3]]));
    assert_eq!(
        some,
        r#"{"results":[{"columns":["id","name","id"],"types":["integer","text",""],"values":[[1,"a",null],[null,null,null]]}]}"#
    );
    let none = answer(PLAIN, |e| rows(e, &of, &[]));
    assert_eq!(none, r#"{"results":[{"columns":["id","name","id"],"types":["integer","text",""]}]}"#);
    assert_eq!(answer(PLAIN, |e| rows(e, &[], &[])), r#"{"results":[{}]}"#, "no columns");
    assert_eq!(answer(TIMED, |e| rows(e, &[], &[])), r#"{"results":[{"time":0.5}]}"#);
    let timed = answer(TIMED, |e| rows(e, &of[..1], &[&[V::Integer(7)]]));
    assert_eq!(timed, r#"{"results":[{"columns":["id"],"types":["integer"],"values":[[7]],"time":0.5}]}"#);
    let timed = answer(TIMED, |e| rows(e, &of[..1], &[]));
    assert_eq!(timed, r#"{"results":[{"columns":["id"],"types":["integer"],"time":0.5}]}"#);
}

#[test]
fn rows_as_objects_are_sorted_and_the_last_of_equal_names_counts() {
    let of = [("z", "text"), ("a<", "integer"), ("z", "blob"), ("B", "")];
    let row: [V<'_>; 4] = [V::Text(b"1"), V::Integer(2), V::Blob(b"\xff"), V::Real(0.5)];
    let some = answer(ASSOCIATIVE, |e| rows(e, &of, &[&row, &row]));
    assert_eq!(
        some,
        r#"{"results":[{"types":{"B":"real","a\u003c":"integer","z":"blob"},"rows":[{"B":0.5,"a\u003c":2,"z":"/w=="},{"B":0.5,"a\u003c":2,"z":"/w=="}]}]}"#
    );
    let none = answer(ASSOCIATIVE, |e| rows(e, &of[..1], &[]));
    assert_eq!(none, r#"{"results":[{"types":{"z":"text"},"rows":[]}]}"#);
    assert_eq!(answer(ASSOCIATIVE, |e| rows(e, &[], &[])), r#"{"results":[{"rows":[]}]}"#);
    let timed = EncodeOptions { timings: true, ..ASSOCIATIVE };
    assert_eq!(answer(timed, |e| rows(e, &[], &[])), r#"{"results":[{"rows":[],"time":0.5}]}"#);
    let one = answer(timed, |e| rows(e, &of[..1], &[&[V::Null]]));
    assert_eq!(one, r#"{"results":[{"types":{"z":"text"},"rows":[{"z":null}],"time":0.5}]}"#);
}

#[test]
fn writes_leave_out_zeros() {
    let write = |options, id, affected| answer(options, |e| e.write(id, affected, 0.25));
    assert_eq!(write(PLAIN, 0, 0), r#"{"results":[{}]}"#);
    assert_eq!(write(PLAIN, i64::MIN, 0), r#"{"results":[{"last_insert_id":-9223372036854775808}]}"#);
    assert_eq!(write(PLAIN, 0, 3), r#"{"results":[{"rows_affected":3}]}"#);
    assert_eq!(write(TIMED, 0, 0), r#"{"results":[{"time":0.25}]}"#);
    assert_eq!(write(ASSOCIATIVE, 0, 0), r#"{"results":[{"rows":null}]}"#);
    let both = write(EncodeOptions { timings: true, ..ASSOCIATIVE }, 1, 1);
    assert_eq!(both, r#"{"results":[{"last_insert_id":1,"rows_affected":1,"time":0.25,"rows":null}]}"#);
}

#[test]
fn errors_stand_alone_and_have_no_time() {
    let both = |e: &mut ResultEncoder| {
        e.error("no such table: <x>", true);
        e.error("no", false);
    };
    assert_eq!(answer(TIMED, both), r#"{"results":[{"error":"no such table: \u003cx\u003e"},{"error":"no"}]}"#);
    assert_eq!(
        answer(ASSOCIATIVE, both),
        r#"{"results":[{"rows":[],"error":"no such table: \u003cx\u003e"},{"error":"no"}]}"#
    );
}

#[test]
fn an_error_takes_back_the_rows_before_it() {
    for options in [PLAIN, ASSOCIATIVE, TIMED] {
        let feed = |rows_before: usize| {
            move |e: &mut ResultEncoder| {
                e.write(1, 1, 0.5);
                e.begin_rows(&columns(&[("a", "text")]));
                for _ in 0..rows_before {
                    e.row(&[V::Text(b"{[\"")]).expect("room");
                }
                e.error("query timeout", true);
                rows(e, &[("b", "")], &[&[V::Integer(1)]]);
            }
        };
        let without = answer(options, |e| {
            e.write(1, 1, 0.5);
            e.error("query timeout", true);
            rows(e, &[("b", "")], &[&[V::Integer(1)]]);
        });
        for rows_before in [0, 1, 2, 50] {
            assert_eq!(answer(options, feed(rows_before)), without);
        }
    }
}

#[test]
fn types_come_from_the_first_row_only() {
    let of = [("i", ""), ("r", ""), ("t", ""), ("b", ""), ("n", ""), ("d", "foo")];
    let first: [V<'_>; 6] = [V::Integer(1), V::Real(1.0), V::Text(b"t"), V::Blob(b"b"), V::Null, V::Integer(1)];
    let second: [V<'_>; 6] = [V::Blob(b"\x00"); 6];
    assert_eq!(
        answer(PLAIN, |e| rows(e, &of, &[&first, &second])),
        concat!(
            r#"{"results":[{"columns":["i","r","t","b","n","d"],"types":["integer","real","text","text","","foo"],"#,
            r#""values":[[1,1,"t","b",null,1],["AA==","AA==","\u0000","\u0000","\u0000","AA=="]]}]}"#
        )
    );
}

#[test]
fn declared_types_change_how_values_are_shown() {
    for (decl_type, stored, shown) in [
        ("boolean", V::Integer(2), "true"),
        ("boolean", V::Integer(0), "false"),
        ("boolean", V::Integer(-1), "false"),
        ("boolean", V::Text(b"yes"), "\"yes\""),
        ("boolean", V::Real(1.5), "1.5"),
        ("bool", V::Integer(1), "1"),
        ("boolean(1)", V::Integer(1), "1"),
        ("date", V::Integer(0), "\"1970-01-01T00:00:00Z\""),
        ("datetime", V::Text(b"2004-02-14 07:15:00"), "\"2004-02-14T07:15:00Z\""),
        ("timestamp", V::Text(b"<today>"), "\"\\u003ctoday\\u003e\""),
        ("timestamp", V::Text(b""), "\"\""),
        ("timestamp", V::Integer(i64::MAX), "9223372036854775807"),
        ("date", V::Real(1.5), "1.5"),
        ("date", V::Blob(b"2004-02-14"), "\"MjAwNC0wMi0xNA==\""),
        ("timestamptz", V::Text(b"2004-02-14"), "\"2004-02-14\""),
        ("time", V::Integer(1), "1"),
        ("blob", V::Text(b"fiona"), "\"fiona\""),
        ("blob", V::Blob(b"AB"), "\"QUI=\""),
        ("blob", V::Blob(b""), "\"\""),
        ("varchar(3)", V::Blob(b"\xff\x00"), "\"\\ufffd\\u0000\""),
        ("real", V::Real(f64::INFINITY), "\"Infinity\""),
        ("", V::Real(f64::NEG_INFINITY), "\"-Infinity\""),
        ("integer", V::Null, "null"),
    ] {
        assert_eq!(value(PLAIN, decl_type, stored), shown, "{decl_type} {stored:?}");
    }
    let arrays = EncodeOptions { blob_array: true, ..PLAIN };
    assert_eq!(value(arrays, "blob", V::Blob(b"\xde\xad")), "[222,173]");
    assert_eq!(value(arrays, "blob", V::Blob(b"")), "[]");
    assert_eq!(value(arrays, "json", V::Blob(b"[]")), "\"[]\"");
}

#[test]
fn a_result_beyond_the_limit_becomes_an_error_that_names_it() {
    for pretty in [false, true] {
        let options = EncodeOptions { bytes_max: 1000, pretty, ..PLAIN };
        let mut encoder = ResultEncoder::new(options);
        rows(&mut encoder, &[("small", "")], &[&[V::Integer(1)]]);
        encoder.begin_rows(&columns(&[("large", "text"), ("never written", "text")]));
        let mut written = 0;
        while encoder.row(&[V::Text(&[b'x'; 90]), V::Null]).is_ok() {
            written += 1;
        }
        assert!((1..=10).contains(&written), "{written}");
        encoder.error("full", true);
        rows(&mut encoder, &[("next", "")], &[&[V::Integer(2)]]);
        let answer = encoder.finish(&ResponseTail::default());
        let answer: serde_json::Value = serde_json::from_slice(&answer).expect("valid JSON");
        assert_eq!(answer["results"][0]["columns"][0], "small");
        let error = answer["results"][1]["error"].as_str().expect("an error");
        assert!(error.contains("1000 bytes"), "{error}");
        assert_eq!(answer["results"][1].as_object().expect("an object").len(), 1);
        assert_eq!(answer["results"][2]["columns"][0], "next");
    }
}

#[test]
fn one_huge_row_stops_within() {
    let mut encoder = ResultEncoder::new(EncodeOptions { bytes_max: 10_000, ..PLAIN });
    let of = vec![("c", "text"); 1000];
    encoder.begin_rows(&columns(&of));
    let values = vec![V::Text(&[1; 1000]); 1000];
    assert_eq!(encoder.row(&values), Err(SinkFull));
    assert!(encoder.len() < 30_000, "stopped after the value that passed the limit: {}", encoder.len());
    encoder.error("", true);
}

#[test]
fn collected_results_come_out_as_streamed_ones() {
    let collected = [
        StatementResult::Write { last_insert_id: 1, rows_affected: 1, time: 0.5 },
        StatementResult::Rows {
            columns: columns(&[("a", "")]),
            rows: vec![vec![Value::Text(b"x".to_vec())], vec![Value::Null]],
            time: 0.5,
        },
        StatementResult::Error { text: "no".to_owned(), is_read: false },
    ];
    let text = answer(ASSOCIATIVE, |e| collected.iter().for_each(|r| e.push(r)));
    assert_eq!(
        text,
        r#"{"results":[{"last_insert_id":1,"rows_affected":1,"rows":null},{"types":{"a":"text"},"rows":[{"a":"x"},{"a":null}]},{"error":"no"}]}"#
    );
    let tiny = EncodeOptions { bytes_max: 150, ..PLAIN };
    let large = StatementResult::Rows {
        columns: columns(&[("a", "")]),
        rows: vec![vec![Value::Text(vec![b'x'; 200])]],
        time: 0.5,
    };
    assert!(answer(tiny, |e| e.push(&large)).contains("result larger than 150 bytes"));
}

#[test]
fn the_end_of_an_answer() {
    let finish = |tail: ResponseTail<'_>| {
        let mut encoder = ResultEncoder::new(PLAIN);
        encoder.write(0, 0, 0.0);
        String::from_utf8(encoder.finish(&tail)).expect("UTF-8")
    };
    assert_eq!(finish(ResponseTail::default()), r#"{"results":[{}]}"#);
    let time_and_index = ResponseTail { time: Some(2.26e-7), raft_index: 9, ..ResponseTail::default() };
    assert_eq!(finish(time_and_index), r#"{"results":[{}],"time":2.26e-7,"raft_index":9}"#);
    let failed = ResponseTail { error: Some("not leader"), time: Some(0.5), ..ResponseTail::default() };
    assert_eq!(finish(failed), r#"{"results":[],"error":"not leader","time":0.5}"#, "results are left out");
    let queued = ResponseTail { sequence_number: Some(1653314298877648934), ..ResponseTail::default() };
    let queued = empty_response(&queued, false);
    assert_eq!(queued, br#"{"results":[],"sequence_number":1653314298877648934}"#);
    assert_eq!(empty_response(&ResponseTail::default(), true), b"{\n    \"results\": []\n}");
    assert_eq!(answer(PLAIN, |_| ()), r#"{"results":[]}"#);
}

#[test]
fn pretty_looks_as_documented() {
    let mut encoder = ResultEncoder::new(EncodeOptions { pretty: true, ..PLAIN });
    rows(&mut encoder, &[("id", "integer"), ("name", "text")], &[&[V::Integer(1), V::Text(b"fiona")]]);
    let expected = r#"{
    "results": [
        {
            "columns": [
                "id",
                "name"
            ],
            "types": [
                "integer",
                "text"
            ],
            "values": [
                [
                    1,
                    "fiona"
                ]
            ]
        }
    ]
}"#;
    assert_eq!(String::from_utf8(encoder.finish(&ResponseTail::default())).expect("UTF-8"), expected);
}
