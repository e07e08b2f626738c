//! `GET /db/backup`: which answer, which type, and what becomes of one that breaks off.

use crate::assert_text;
use crate::fake::Node;

#[test]
fn a_backup_has_the_type_of_its_format_and_no_other_headers() {
    let node = Node::start(&[]);
    for (query, content_type, wish) in [
        ("", "application/octet-stream", "Wish { format: Wal, compress: false }"),
        ("?fmt=delete&compress", "application/octet-stream", "Wish { format: Delete, compress: true }"),
        ("?vacuum", "application/octet-stream", "Wish { format: Vacuumed, compress: false }"),
        ("?fmt=sql&tables=a,b", "application/sql", r#"Wish { format: Text { tables: ["a", "b"] }, compress: false }"#),
    ] {
        let answer = node.call("GET", &format!("/db/backup{query}"), "");
        assert_eq!((answer.status, answer.body.as_str()), (200, wish), "{query}");
        assert_eq!(answer.header("Content-Type"), Some(content_type));
        for name in ["Content-Encoding", "Content-Disposition", "X-Rqlite-Served-By"] {
            assert_eq!(answer.header(name), None, "{query}");
        }
    }
}

#[test]
fn refusals_of_a_backup_are_lines_of_text_and_a_redirect_has_no_body() {
    let node = Node::start(&[]);
    for query in ["fmt=sql&vacuum", "vacuum&fmt=DELETE"] {
        assert_text(&node.call("GET", &format!("/db/backup?{query}"), ""), 500, "invalid backup format");
    }
    let moved = node.call("GET", "/db/backup?redirect&fmt=sql", "");
    assert_eq!((moved.status, moved.body.as_str()), (301, ""));
    assert_eq!(moved.header("Location"), Some("http://leader:4001/db/backup?redirect&fmt=sql"));
    assert_eq!(moved.header("Content-Type"), Some("application/octet-stream"));
    node.backend.lose_leader();
    assert_text(&node.call("GET", "/db/backup", ""), 503, "leader not found");
    assert_eq!(node.call("GET", "/db/backup?noleader", "").status, 200);
    node.backend.close_store();
    assert_text(&node.call("GET", "/db/backup", ""), 500, "store not open");
}

#[test]
fn only_a_whole_backup_counts_as_the_last_one() {
    let node = Node::start(&[]);
    let last = |node: &Node| node.call("GET", "/status?key=last_backup_time", "").body;
    node.backend.break_off_backups(true);
    let cut = node.call("GET", "/db/backup", "");
    assert!(cut.status == 200 && cut.body.ends_with("<cut>"), "an answer that has begun can only be cut");
    assert_eq!(last(&node).trim(), "{}");
    node.backend.break_off_backups(false);
    assert_eq!(node.call("GET", "/db/backup", "").status, 200);
    assert!(last(&node).starts_with("\"19"), "{}", last(&node));
}
