//! `POST /db/load` and `POST /boot`: what a body is taken for, and how the outcome is told.

use crate::fake::Node;
use crate::{JSON, assert_text};

const DATABASE: &str = "SQLite format 3\0 and so on, for more than thirty-two bytes";
const BAD: &str = "SQLite format 3\0 and so on, for more than thirty-two bytes: bad";

#[test]
fn sql_is_one_string_whatever_type_it_is_said_to_have() {
    let node = Node::start(&[]);
    let sql = "PRAGMA foreign_keys=OFF;\nBEGIN;\nCOMMIT;\n";
    for content_type in ["text/plain", "application/json", "application/octet-stream"] {
        let answer = node.call_with("POST", "/db/load", &[("Content-Type", content_type)], sql.as_bytes());
        assert_eq!(node.backend.calls(), ["load_text"]);
        let request = node.backend.last_request();
        assert_eq!(request.statements.iter().map(|s| s.sql.as_str()).collect::<Vec<_>>(), [sql]);
        assert!(!request.transaction);
        assert_eq!(answer.body, r#"{"results":[{"last_insert_id":7,"rows_affected":1}]}"#);
        assert_eq!(
            (answer.header("Content-Type"), answer.header("X-Rqlite-Served-By")),
            (JSON, Some("localhost:4001"))
        );
    }
    let answer = node.call("POST", "/db/load?pretty", "");
    assert!(node.backend.last_request().statements.is_empty());
    assert_eq!((answer.status, answer.body.as_str()), (200, "{\n    \"results\": []\n}"));
    let answer = node.call_with("POST", "/db/load", &[], &[0x1f, 0x8b, 0xff, 0xfe]);
    assert!(node.backend.calls().is_empty());
    assert!(answer.status == 200 && answer.body.starts_with(r#"{"results":[],"error":"the body is neither"#));
}

#[test]
fn errors_of_sql_are_answers_and_a_redirect_says_no_type() {
    let node = Node::start(&[]);
    assert_text(&node.call("POST", "/db/load", "error leader"), 503, "leader not found");
    let answer = node.call("POST", "/db/load", "error stale");
    assert_eq!((answer.status, answer.body.as_str()), (200, r#"{"results":[],"error":"stale read"}"#));
    let moved = node.call("POST", "/db/load?redirect", "error redirect");
    assert_eq!((moved.status, moved.body.as_str(), moved.header("Content-Type")), (301, "", None));
    assert_eq!(moved.header("Location"), Some("https://other:4001/db/load?redirect"));
    let key = "k".repeat(201);
    let answer = node.call_with("POST", "/db/load", &[("Idempotency-Key", &key)], b"SELECT 1");
    assert_eq!(answer.status, 400);
    node.call_with("POST", "/db/load?db_timeout=2s", &[("Idempotency-Key", "k")], b"SELECT 1");
    assert_eq!(node.backend.last_options().idempotency_key.as_deref(), Some(b"k".as_slice()));
}

#[test]
fn a_file_is_told_by_its_first_bytes_and_answers_no_results() {
    let node = Node::start(&[]);
    let answer = node.call("POST", "/db/load", DATABASE);
    assert_eq!(node.backend.calls(), ["load_file"]);
    assert_eq!((answer.status, answer.body.as_str()), (200, r#"{"results":[]}"#));
    assert_eq!((answer.header("Content-Type"), answer.header("X-Rqlite-Served-By")), (JSON, Some("leader:4002")));
    let answer = node.call("POST", "/db/load?timings&raft_index", DATABASE);
    assert!(
        answer.body.ends_with(r#","raft_index":42}"#) && answer.body.contains(r#"[],"time":0."#),
        "{}",
        answer.body
    );
    assert_text(&node.call("POST", "/db/load", BAD), 500, "error swapping databases: no room");
    let moved = node.call("POST", "/db/load?redirect", DATABASE);
    assert_eq!((moved.status, moved.body.as_str(), moved.header("Content-Type")), (301, "", None));
    node.backend.lose_leader();
    assert_text(&node.call("POST", "/db/load", DATABASE), 503, "leader not found");
}

#[test]
fn boot_looks_at_the_body_first_and_answers_nothing() {
    let node = Node::start(&[]);
    let answer = node.call("POST", "/boot", DATABASE);
    assert_eq!((answer.status, answer.body.as_str()), (200, ""));
    assert_eq!((answer.header("Content-Type"), answer.header("X-Rqlite-Served-By")), (None, None));
    node.backend.lose_leader();
    for body in ["", "SQLite format 3\0", &"x".repeat(100)] {
        assert_text(&node.call("POST", "/boot", body), 400, "invalid SQLite data");
        assert!(node.backend.calls().is_empty());
    }
    assert_text(&node.call("POST", "/boot", DATABASE), 503, "not leader");
    assert_text(&Node::start(&[]).call("POST", "/boot", BAD), 503, "error swapping database file: no room");
}
