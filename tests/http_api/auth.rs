//! Who is let in: what a refusal looks like, when it is made, and in whose name the node is asked.

use crate::fake::{Answer, Node};
use crate::loopback::{Client, start};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ferrolite::auth::{AccessControl, Credentials};

const JSON: Option<&str> = Some("application/json; charset=utf-8");

/// Each user has its name as its password.
fn node(users: &str) -> Node {
    let users: serde_json::Value = serde_json::from_str(users).expect("JSON");
    let user = |(name, perms): (&String, &serde_json::Value)| serde_json::json!({"username": name, "password": name, "perms": perms});
    let users: Vec<_> = users.as_object().expect("names and permissions").iter().map(user).collect();
    let file = ferrolite::auth::CredentialFile::parse(serde_json::json!(users).to_string().as_bytes());
    Node::start_for(AccessControl::of(&file.expect("valid")), &[])
}

fn basic(user: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{user}")))
}

fn call_as(node: &Node, user: &str, method: &str, target: &str, body: &str) -> Answer {
    node.call_with(method, target, &[("Authorization", &basic(user))], body.as_bytes())
}

fn credentials(user: &str) -> Credentials {
    Credentials::new(user.to_owned(), user.to_owned()).expect("short")
}

#[test]
fn every_answer_asks_for_credentials_also_where_none_are_needed() {
    let node = node(r#"{"q": ["query"]}"#);
    for (user, method, target, status, content_type) in [
        ("", "OPTIONS", "/db/execute?timeout=bad", 200, None),
        ("", "GET", "/nothing", 404, None),
        ("", "HEAD", "/", 302, Some("text/html; charset=utf-8")),
        ("", "GET", "/db/query?timeout=x", 400, Some("text/plain; charset=utf-8")),
        ("", "GET", "/db/query?q=x", 401, JSON),
        ("q", "GET", "/db/query?q=x", 200, JSON),
        // The permission is asked for before the method.
        ("q", "DELETE", "/db/query", 405, JSON),
        ("", "DELETE", "/db/query", 401, JSON),
        ("q", "GET", "/snapshot", 401, None),
        ("q", "POST", "/db/request", 401, JSON),
        ("q", "GET", "/licenses", 401, Some("text/plain; charset=utf-8")),
    ] {
        let answer = match user {
            "" => node.call(method, target, ""),
            user => call_as(&node, user, method, target, "[\"SELECT 1\"]"),
        };
        assert_eq!((answer.status, answer.header("Content-Type")), (status, content_type), "{user} {method} {target}");
        assert_eq!(answer.header("Www-Authenticate"), Some("Basic realm=\"rqlite\""), "{target}");
        assert_eq!(answer.header("Access-Control-Allow-Headers"), Some("Content-Type, Authorization"), "{target}");
        assert_eq!(answer.header("Access-Control-Allow-Credentials"), Some("true"), "{target}");
        assert!(!matches!(status, 401 | 405) || answer.body.is_empty(), "{target}: {}", answer.body);
    }
    assert!(node.backend.calls().is_empty(), "who is refused reaches nothing");
    let status = node_status(&crate::auth::node(r#"{"*": ["status"]}"#));
    assert_eq!(status, "\"enabled\"");
}

fn node_status(node: &Node) -> String {
    node.call("GET", "/status?key=http.auth", "").body
}

#[test]
fn the_node_is_asked_in_the_callers_name() {
    let node = node(r#"{"bob": ["all"]}"#);
    let (insert, select) = (r#"["INSERT INTO t VALUES(1)"]"#, r#"["SELECT 1"]"#);
    for (path, body, asked) in [
        ("/db/execute", insert, "execute"),
        ("/db/query", select, "read"),
        ("/db/request", insert, "request"),
        ("/db/request", select, "read"),
    ] {
        assert_eq!(call_as(&node, "bob", "POST", path, body).status, 200, "{path}");
        assert_eq!(node.backend.calls().last(), Some(&asked), "{path}");
        assert_eq!(node.backend.last_options().callers.as_slice(), [credentials("bob")], "{path}");
    }
    for (method, path, body, asked) in [
        ("POST", "/db/execute?queue", insert, "enqueue"),
        ("GET", "/db/backup", "", "backup"),
        ("POST", "/verify", "", "verify"),
        ("POST", "/leader", "", "step_down"),
        ("DELETE", "/remove", r#"{"id":"x"}"#, "remove_node"),
    ] {
        assert_eq!(call_as(&node, "bob", method, path, body).status, 200, "{path}");
        assert!(node.backend.calls().contains(&asked), "{path}");
        assert!(node.backend.last_caller() == credentials("bob"), "{path}");
    }
    // Also where this node asks for nothing: the leader may.
    let open = Node::start(&[]);
    assert_eq!(call_as(&open, "bob", "POST", "/db/execute", insert).status, 200);
    assert_eq!(open.backend.last_options().callers.as_slice(), [credentials("bob")]);
    assert_eq!(open.call("POST", "/db/execute", insert).status, 200);
    assert!(open.backend.last_options().callers.as_slice().is_empty());
}

#[test]
fn a_read_says_what_it_is_for() {
    use ferrolite::coordinator::ReadPurpose;
    let node = Node::start(&[]);
    for (method, target, body, purpose) in [
        ("GET", "/db/query?q=x", "", ReadPurpose::Query),
        ("POST", "/db/request", r#"["SELECT 1"]"#, ReadPurpose::Request),
    ] {
        assert_eq!(node.call(method, target, body).status, 200);
        assert_eq!(node.backend.last_options().purpose, purpose, "{target}");
    }
}

#[test]
fn what_the_leader_refuses_is_told_in_a_line() {
    let node = Node::start(&[]);
    for (method, path, body, line) in [
        ("POST", "/db/execute?pretty", r#"["error unauthorized"]"#, "remote Execute not authorized"),
        ("DELETE", "/remove", r#"{"id":"refusing"}"#, "remote remove node not authorized"),
    ] {
        crate::assert_text(&node.call(method, path, body), 401, line);
    }
    let headers = [("Content-Type", "application/json"), ("Content-Length", "17")];
    let answer = node.call_with("POST", "/leader", &headers, br#"{"id":"refusing"}"#);
    crate::assert_text(&answer, 401, "remote stepdown not authorized");
}

#[test]
fn a_large_body_is_not_even_read_from_those_who_may_do_nothing() {
    let node = node(r#"{"bob": ["load"], "ann": ["query"]}"#);
    let (engine, backend) = start(node);
    let post = |user: &str, length: &str| {
        format!("POST /db/execute HTTP/1.1\r\nHost: h\r\nAuthorization: {}\r\n{length}\r\n\r\n", basic(user))
    };
    for length in
        ["Content-Length: 100000000", "Content-Length: 70000\r\nExpect: 100-continue", "Transfer-Encoding: chunked"]
    {
        // Nothing of the body is sent, and still there is an answer.
        let (head, _) = Client::connect(&engine).call(&post("bob", length));
        assert!(head.starts_with("http/1.1 401 ") && head.contains("\r\nconnection: close\r\n"), "{length}: {head}");
        assert!(head.contains("\r\nwww-authenticate: basic realm=\"rqlite\"\r\n"), "{length}: {head}");
    }
    // A small one costs nothing, and its client keeps the connection.
    let mut client = Client::connect(&engine);
    for _ in 0..2 {
        let (head, _) = client.call(&format!("{}[]", post("bob", "Content-Length: 2")));
        assert!(head.starts_with("http/1.1 401 ") && !head.contains("connection: close"), "{head}");
    }
    assert!(backend.calls().is_empty());
}
