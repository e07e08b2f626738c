//! The API's front from the query string to the answer, without sockets and without a database: a fake node stands where
//! the coordinator would, and answers arrive in a channel.

#[path = "http_api/auth.rs"]
mod auth;
#[path = "http_api/backup.rs"]
mod backup;
#[path = "http_api/bodies.rs"]
mod bodies;
#[path = "http_api/fake.rs"]
mod fake;
#[path = "http_api/load.rs"]
mod load;
#[path = "http_api/loopback.rs"]
mod loopback;

use fake::{Answer, Node};
use ferrolite::coordinator::Level;
use std::time::Duration;

const JSON: Option<&str> = Some("application/json; charset=utf-8");
const TEXT: Option<&str> = Some("text/plain; charset=utf-8");

fn assert_text(answer: &Answer, status: u16, line: &str) {
    assert_eq!((answer.status, answer.body.as_str()), (status, format!("{line}\n").as_str()));
    assert_eq!(answer.header("Content-Type"), TEXT);
    assert_eq!(answer.header("X-Content-Type-Options"), Some("nosniff"));
    assert_eq!(answer.header("X-Rqlite-Served-By"), None);
}

#[test]
fn every_answer_carries_the_common_headers() {
    let node = Node::start(&["-http-allow-origin", "https://app.example.com"]);
    for (method, target) in [
        ("OPTIONS", "/anything?timeout=bad"),
        ("GET", "/nothing"),
        ("GET", "/db/query?timeout=x"),
        ("GET", "/db/execute"),
        ("GET", "/"),
        ("GET", "/status"),
        ("GET", "/db/query?q=SELECT+1"),
    ] {
        let answer = node.call(method, target, "");
        let versions = answer.headers.iter().filter(|(name, _)| *name == "X-Rqlite-Version").count();
        assert_eq!(versions, 1, "{target}");
        assert_eq!(answer.header("Access-Control-Allow-Methods"), Some("OPTIONS, GET, POST"));
        assert_eq!(answer.header("Access-Control-Allow-Headers"), Some("Content-Type"));
        assert_eq!(answer.header("Access-Control-Allow-Origin"), Some("https://app.example.com"));
        assert_eq!(answer.header("Access-Control-Allow-Credentials"), None);
        assert_eq!(answer.header("Www-Authenticate"), None);
    }
    assert_eq!(Node::start(&[]).call("GET", "/x", "").header("Access-Control-Allow-Origin"), None);
}

#[test]
fn the_query_string_is_checked_before_the_path_and_the_method() {
    let node = Node::start(&[]);
    assert_text(&node.call("GET", "/nothing?retries=x", ""), 400, "retries is not a valid integer");
    assert_text(&node.call("PUT", "/db/execute?q=", ""), 400, "query parameter not set");
    let options = node.call("OPTIONS", "/anything?timeout=bad", "");
    assert_eq!((options.status, options.body.as_str(), options.header("Content-Type")), (200, "", None));
}

#[test]
fn wrong_methods_and_unknown_paths_have_no_body() {
    let node = Node::start(&[]);
    for (method, path, content_type) in [
        ("GET", "/db/execute", JSON),
        ("PUT", "/db/execute", JSON),
        ("DELETE", "/db/query", JSON),
        ("HEAD", "/db/query", JSON),
        ("GET", "/db/request", JSON),
        ("DELETE", "/db/sql", JSON),
        ("POST", "/status", JSON),
        ("HEAD", "/statusXYZ", JSON),
        ("POST", "/nodes", JSON),
        ("DELETE", "/leader", JSON),
        ("POST", "/licenses", TEXT),
        ("POST", "/db/backup", None),
        ("GET", "/db/load", None),
        ("GET", "/boot", None),
        ("GET", "/snapshot", None),
        ("GET", "/reap", None),
        ("GET", "/remove", None),
        ("POST", "/readyz", None),
        ("POST", "/console/", None),
    ] {
        let answer = node.call(method, path, "");
        assert_eq!((answer.status, answer.body.as_str()), (405, ""), "{method} {path}");
        assert_eq!(answer.header("Content-Type"), content_type, "{method} {path}");
        assert_eq!(answer.header("Allow"), None);
    }
    for path in ["/db/xxx", "/xxx", "/db", "/join", "/metrics", "/leader/", "/boot/", "/snapshot/", "/reap/x", "/debug"]
    {
        let answer = node.call("GET", path, "");
        assert_eq!((answer.status, answer.body.as_str(), answer.header("Content-Type")), (404, "", None), "{path}");
    }
    for path in ["/db/query/more?q=SELECT+1", "/db/%71uery?q=SELECT+1", "/readyzzz", "/nodes/", "/console/"] {
        assert_eq!(node.call("GET", path, "").status, 200, "{path}");
    }
}

#[test]
fn a_write_goes_to_the_log_and_comes_back() {
    let node = Node::start(&["-http-adv-addr", "db.example.com:4001"]);
    let answer = node.call("POST", "/db/execute?transaction&raft_index", r#"[["INSERT",1],"","UPDATE"]"#);
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("Content-Type"), JSON);
    assert_eq!(answer.header("X-Rqlite-Served-By"), Some("db.example.com:4001"));
    let result = r#"{"last_insert_id":7,"rows_affected":1}"#;
    assert_eq!(answer.body, format!(r#"{{"results":[{result},{result}],"raft_index":42}}"#));
    let request = node.backend.last_request();
    assert!(request.transaction);
    assert_eq!(request.statements.len(), 2, "an empty statement does not even go to the node");
    assert_eq!(node.call("POST", "/db/execute", r#"[""]"#).body, r#"{"results":[]}"#);
}

#[test]
fn shapes_of_the_answer_follow_the_parameters() {
    let node = Node::start(&[]);
    let body = r#"["INSERT"]"#;
    for (query, expected) in [
        ("associative", r#"{"results":[{"last_insert_id":7,"rows_affected":1,"rows":null}]}"#),
        (
            "pretty",
            "{\n    \"results\": [\n        {\n            \"last_insert_id\": 7,\n            \"rows_affected\": 1\n        }\n    ]\n}",
        ),
    ] {
        assert_eq!(node.call("POST", &format!("/db/execute?{query}"), body).body, expected);
    }
    let timed = node.call("POST", "/db/execute?timings", body).body;
    assert!(timed.starts_with(r#"{"results":[{"last_insert_id":7,"rows_affected":1,"time":0.5}],"time":"#), "{timed}");
}

#[test]
fn plain_sql_is_one_statement_where_it_is_allowed() {
    let node = Node::start(&[]);
    for content_type in ["text/plain", "text/plain; charset=utf-8"] {
        let answer = node.call_with("POST", "/db/execute", &[("Content-Type", content_type)], b"INSERT; UPDATE");
        assert_eq!(answer.status, 200);
        assert_eq!(node.backend.last_request().statements[0].sql, "INSERT; UPDATE");
    }
    let headers = [("Content-Type", "text/plain")];
    assert_eq!(node.call_with("POST", "/db/query", &headers, b"").body, r#"{"results":[]}"#);
    assert_text(&node.call_with("POST", "/db/request", &headers, b"SELECT 1"), 400, "invalid JSON body");
    assert_text(&node.call_with("POST", "/db/execute?queue", &headers, b"SELECT 1"), 400, "invalid JSON body");
    assert_text(&node.call_with("POST", "/db/execute", &headers, b"SELECT '\xff'"), 400, "body is not valid UTF-8");
    let form = [("Content-Type", "application/x-www-form-urlencoded")];
    assert_eq!(node.call_with("POST", "/db/execute", &form, br#"["INSERT"]"#).status, 200);
}

#[test]
fn queries_read_at_their_level() {
    let node = Node::start(&[]);
    let expected = r#"{"results":[{"columns":["a"],"types":["integer"],"values":[[1]]}]}"#;
    let answer = node.call("GET", "/db/query?q=SELECT+1&level=none&freshness=1s&freshness_strict", "");
    assert_eq!((answer.body.as_str(), answer.header("Content-Type")), (expected, JSON));
    assert_eq!(answer.header("X-Rqlite-Served-By"), Some("localhost:4001"));
    let options = node.backend.last_options();
    assert_eq!(
        (options.level, options.freshness, options.freshness_strict),
        (Level::None, Duration::from_secs(1), true)
    );
    assert_eq!(node.call("POST", "/db/query?q=SELECT+9", r#"["SELECT 2"]"#).body, expected);
    assert_eq!(node.backend.last_request().statements[0].sql, "SELECT 2", "a POST ignores q");
    assert_eq!(node.call("GET", "/db/query", "").body, r#"{"results":[]}"#);
    let strong = node.call("GET", "/db/query?q=SELECT+1&level=strong&raft_index", "").body;
    assert!(strong.ends_with(r#""raft_index":43}"#), "{strong}");
}

#[test]
fn a_request_without_writes_is_a_read() {
    let node = Node::start(&[]);
    node.call("POST", "/db/request", r#"["SELECT 1","SELECT 2"]"#);
    assert_eq!(node.backend.calls(), ["only_reads", "permit_read", "read"]);
    node.call("POST", "/db/request", r#"["SELECT 1","INSERT"]"#);
    assert_eq!(node.backend.calls(), ["only_reads", "request"]);
    node.call("POST", "/db/request?level=strong", r#"["SELECT 1"]"#);
    assert_eq!(node.backend.calls(), ["request"]);
}

#[test]
fn errors_of_the_whole_request_have_their_shapes() {
    let node = Node::start(&[]);
    for path in ["/db/execute", "/db/query", "/db/request"] {
        let api_error = node.call("POST", path, r#"["error stale"]"#);
        assert_eq!((api_error.status, api_error.header("Content-Type")), (200, JSON));
        assert_eq!(api_error.body, r#"{"results":[],"error":"stale read"}"#);
        assert_eq!(api_error.header("X-Rqlite-Served-By"), None);
        assert_text(&node.call("POST", path, r#"["error leader"]"#), 503, "leader not found");
        let redirect = node.call("POST", &format!("{path}?redirect&x=%20"), r#"["error redirect"]"#);
        assert_eq!((redirect.status, redirect.body.as_str()), (301, ""));
        let location = format!("https://other:4001{path}?redirect&x=%20");
        assert_eq!(redirect.header("Location"), Some(location.as_str()));
        assert_eq!(redirect.header("Content-Type"), JSON);
        for (body, text) in [("", "invalid JSON body"), ("[]", "no statements"), ("[1]", "invalid request")] {
            assert_text(&node.call("POST", path, body), 400, text);
        }
    }
}

#[test]
fn an_answer_may_come_from_another_thread() {
    let node = Node::start(&[]);
    node.backend.hold_writes();
    let pending = node.begin("POST", "/db/execute", &[], br#"["INSERT"]"#);
    assert!(pending.try_recv().is_err(), "nothing is answered before the node has answered");
    let done = node.backend.take_held();
    std::thread::spawn(done).join().expect("the continuation does not panic");
    let answer = pending.recv_timeout(Duration::from_secs(5)).expect("an answer");
    assert_eq!(answer.body, r#"{"results":[{"last_insert_id":7,"rows_affected":1}]}"#);
}

#[test]
fn queued_writes_answer_with_a_number() {
    let node = Node::start(&[]);
    let queued = node.call("POST", "/db/execute?queue=false", r#"["INSERT","INSERT"]"#);
    assert_eq!((queued.status, queued.body.as_str()), (200, r#"{"results":[],"sequence_number":1001}"#));
    assert_eq!(queued.header("X-Rqlite-Served-By"), None);
    assert_text(&node.call("POST", "/db/execute?queue", "[]"), 400, "no statements");
    assert_eq!(node.call("POST", "/db/execute?queue&wait", "[]").status, 200, "a barrier");
    assert_text(&node.call("POST", "/db/execute?queue&wait", "nonsense"), 400, "invalid JSON body");
    assert_text(&node.call("POST", "/db/execute?queue&wait&timeout=1ms", r#"["error"]"#), 408, "queue wait timeout");
    let timed = node.call("POST", "/db/execute?queue&timings", r#"["INSERT"]"#).body;
    assert!(timed.starts_with(r#"{"results":[],"time":"#) && timed.ends_with(r#","sequence_number":1001}"#), "{timed}");
    node.backend.lose_leader();
    assert_text(&node.call("POST", "/db/execute?queue", r#"["INSERT"]"#), 503, "leader not found");
    assert_eq!(node.call("POST", "/db/execute?queue&noleader", r#"["INSERT"]"#).status, 200);
}

#[test]
fn sql_is_shown_and_checked_but_not_run() {
    let node = Node::start(&[]);
    let answer = node.call("POST", "/db/sql", r#"["INSERT INTO foo(v) VALUES(RANDOM())","SLECT * FORM foo"]"#);
    let json: serde_json::Value = serde_json::from_str(&answer.body).expect("JSON");
    let first = json["results"][0]["rewritten"].as_str().expect("a text");
    let digits = first.strip_prefix("INSERT INTO foo(v) VALUES(").and_then(|rest| rest.strip_suffix(')'));
    digits.expect("the rest stays").parse::<i64>().expect("a number");
    assert_eq!(json["results"][1]["original"], "SLECT * FORM foo");
    assert_eq!(json["results"][1]["error"], "1:1: near \"SLECT\": syntax error");
    assert!(json["results"][1].get("rewritten").is_none());
    let kept = node.call("POST", "/db/sql?norwtime", r#"["SELECT datetime('now')"]"#).body;
    assert!(kept.contains("\"rewritten\":\"SELECT datetime('now')\""), "{kept}");
    let expected = r#"{"results":[{"original":"SELECT 1","rewritten":"SELECT 1"}]}"#;
    assert_eq!(node.call("GET", "/db/sql?q=SELECT%201", "").body, expected);
    assert_text(&node.call("GET", "/db/sql", ""), 400, "query not specified");
    assert_text(&node.call("POST", "/db/sql", "x"), 400, "invalid JSON body");
    assert!(node.backend.calls().is_empty());
}

#[test]
fn readiness_is_a_list_that_ends_at_the_first_failure() {
    let node = Node::start(&[]);
    let check = |node: &Node, target: &str, status: u16, body: &str| {
        let answer = node.call("GET", target, "");
        assert_eq!((answer.status, answer.body.as_str(), answer.header("Content-Type")), (status, body, TEXT));
    };
    check(&node, "/readyz", 200, "[+]node ok\n[+]leader ok\n[+]store ok\n[+]db ok");
    check(&node, "/readyz?sync", 200, "[+]node ok\n[+]leader ok\n[+]store ok\n[+]sync ok\n[+]db ok");
    check(&node, "/readyz?noleader&sync", 200, "[+]node ok");
    node.backend.fall_behind();
    check(&node, "/readyz", 503, "[+]node ok\n[+]leader ok\n[+]store not ready");
    node.backend.lose_leader();
    check(&node, "/readyz", 503, "[+]node ok\n[+]leader does not exist");
    check(&node, "/readyz?noleader", 200, "[+]node ok");
    let node = Node::start(&[]);
    check(&node, "/readyz?timeout=0s", 503, "[+]node ok\n[+]leader not contactable: connection refused");
    let late = "[+]node ok\n[+]leader ok\n[+]store ok\n[+]sync timeout waiting for commit index";
    check(&node, "/readyz?sync&timeout=5ms", 503, late);
}

#[test]
fn nodes_and_leader_show_this_node() {
    let node = Node::start(&["-node-id", "a<b"]);
    let check = |body: &str| {
        let start =
            "{\"id\":\"a\\u003cb\",\"api_addr\":\"http://localhost:4001\",\"addr\":\"localhost:4002\",\"version\":\"v";
        let end = "\"voter\":true,\"reachable\":true,\"leader\":true,\"time\":";
        assert!(body.starts_with(start) && body.contains(end) && body.contains(",\"time_s\":\""), "{body}");
    };
    check(&node.call("GET", "/leader", "").body);
    let map = node.call("GET", "/nodes?ver=3", "").body;
    check(map.strip_prefix("{\"a\\u003cb\":").expect("keyed by id"));
    let list = node.call("GET", "/nodes?ver=2", "").body;
    check(list.strip_prefix("{\"nodes\":[").expect("a list"));
    assert!(node.call("GET", "/nodes?ver=2&pretty", "").body.starts_with("{\n    \"nodes\": [\n        {\n"));
    node.backend.close_store();
    assert_text(&node.call("GET", "/nodes", ""), 503, "store nodes: store not open");
    assert_text(&node.call("GET", "/leader", ""), 503, "leader not found");
}

#[test]
fn stepping_down_and_removing() {
    let node = Node::start(&[]);
    let json = [("Content-Type", "application/json"), ("Content-Length", "1")];
    let done = node.call("POST", "/leader", "");
    assert_eq!((done.status, done.body.as_str(), done.header("Content-Type")), (200, "", JSON));
    assert_eq!(done.header("X-Rqlite-Served-By"), Some("localhost:4001"));
    assert_text(&node.call("POST", "/leader?wait", ""), 500, "stepdown: cannot find peer");
    let to = |body: &str| node.call_with("POST", "/leader", &json, body.as_bytes());
    assert_text(&to(r#"{"id":"nobody"}"#), 500, "stepdown: node not found in cluster");
    assert_eq!(to(r#"{"id":""}"#).status, 200);
    assert_eq!(to(r#"{"id":null}"#).status, 200);
    for body in [r#"{"id": "node1""#, r#"{"id":5}"#, "[]", "x"] {
        let answer = to(body);
        assert!(answer.status == 400 && answer.body.starts_with("invalid JSON: "), "{body}: {}", answer.body);
    }
    assert_eq!(
        node.call("POST", "/leader", r#"{"id":"nobody"}"#).status,
        200,
        "without its type a body counts for nothing"
    );

    let removed = node.call("DELETE", "/remove", r#"{"id":"stranger"}"#);
    assert_eq!((removed.status, removed.body.as_str(), removed.header("Content-Type")), (200, "", None));
    assert_eq!(removed.header("X-Rqlite-Served-By"), Some("localhost:4001"));
    for body in ["", "n2", "[]", "{}", r#"{"addr":"x"}"#, r#"{"id":"a","b":"c"}"#, r#"{"id":7}"#] {
        let answer = node.call("DELETE", "/remove", body);
        assert_eq!((answer.status, answer.body.as_str(), answer.header("Content-Type")), (400, "", None), "{body}");
    }
}

#[test]
fn what_the_leader_did_names_the_leader_and_a_redirect_its_api() {
    let node = Node::start(&[]);
    let json = [("Content-Type", "application/json"), ("Content-Length", "1")];
    let elsewhere = br#"{"id":"elsewhere"}"#;
    for (method, path, content_type) in [("POST", "/leader", JSON), ("DELETE", "/remove", None)] {
        let done = node.call_with(method, path, &json, elsewhere);
        assert_eq!((done.status, done.body.as_str()), (200, ""), "{path}");
        assert_eq!(done.header("X-Rqlite-Served-By"), Some("other:4002"));
        assert_eq!(done.header("Content-Type"), content_type);
        let sent_on = node.call_with(method, &format!("{path}?redirect&wait"), &json, elsewhere);
        assert_eq!((sent_on.status, sent_on.body.as_str()), (301, ""), "{path}");
        let location = format!("http://other:4001{path}?redirect&wait");
        assert_eq!(sent_on.header("Location"), Some(location.as_str()));
        assert_eq!((sent_on.header("Content-Type"), sent_on.header("X-Rqlite-Served-By")), (content_type, None));
    }
    let last = node.call("DELETE", "/remove", r#"{"id":"last"}"#);
    assert_text(&last, 500, "need at least one voter in configuration: {[]}");
}

#[test]
fn read_replicas_are_listed_on_request_and_silence_is_told() {
    let node = Node::start(&["-node-id", "n1"]);
    assert!(!node.call("GET", "/nodes?ver=2", "").body.contains("reader"));
    let body = node.call("GET", "/nodes?nonvoters", "").body;
    let silent = "\"reader\":{\"id\":\"reader\",\"addr\":\"h:1\",\"version\":\"\",\"voter\":false,\"reachable\":false,\
                  \"leader\":false,\"error\":\"timeout waiting for node to respond\"}";
    assert!(body.contains(silent), "{body}");
}

#[test]
fn status_has_what_scripts_read() {
    let node = Node::start(&["-node-id", "n1", "-http-allow-origin", "*"]);
    let answer = node.call("GET", "/status", "");
    assert_eq!(answer.header("Content-Type"), JSON);
    let status: serde_json::Value = serde_json::from_str(&answer.body).expect("JSON");
    for (pointer, value) in [
        ("/http/auth", "disabled"),
        ("/http/allow_origin", "*"),
        ("/http/tls/enabled", "false"),
        ("/http/queue/_default/timeout", "50ms"),
        ("/cluster/api_addr", "localhost:4001"),
        ("/store/node_id", "n1"),
        ("/store/raft/state", "Leader"),
        ("/store/leader/node_id", "n1"),
        ("/store/nodes/0/suffrage", "voter"),
        ("/store/apply_timeout", "10s"),
        ("/store/raft/latest_configuration", "[{Suffrage:Voter ID:n1 Address:localhost:4002}]"),
        ("/store/leader_appended_at_time", "0001-01-01T00:00:00Z"),
    ] {
        assert_eq!(status.pointer(pointer), Some(&serde_json::json!(value)), "{pointer}");
    }
    for pointer in [
        "/build/version",
        "/build/commit",
        "/build/build_time",
        "/node/start_time",
        "/node/uptime",
        "/os/pid",
        "/os/page_size",
        "/os/hostname",
        "/runtime/GOOS",
        "/network/interfaces/lo",
        "/extensions/names",
        "/mux/handlers",
        "/store/dir_size_friendly",
        "/store/sqlite3/mem_stats/page_count",
        "/store/snapshot_store/snapshots",
        "/store/sqlite3/conn_pool_stats/ro/open_connections",
        "/store/raft/config/LocalID",
        "/store/observer/dropped",
    ] {
        assert!(status.pointer(pointer).is_some(), "{pointer}");
    }
    let part = |key: &str| node.call("GET", &format!("/status?pretty&key={key}"), "").body;
    assert_eq!(part("store.snapshot_threshold"), "8192");
    assert_eq!(part("store.raft.last_contact"), "0");
    assert_eq!(part("store.raft.voter"), "true");
    assert_eq!(part("http.queue._default.sequence_number"), "1790000000000154139", "every digit is kept");
    assert_eq!(part("no.such"), "{}");
    assert!(node.call("GET", "/status?pretty", "").body.starts_with("{\n    \"build\": {\n        \"build_time\": "));
    node.backend.close_store();
    let closed: serde_json::Value = serde_json::from_str(&node.call("GET", "/status", "").body).expect("JSON");
    assert_eq!(closed["store"], serde_json::json!({"open": false}));
    assert!(closed.get("cluster").is_none() && closed.get("network").is_none());
}

#[test]
fn counters_are_there_from_the_start_and_count() {
    let node = Node::start(&[]);
    let get =
        || -> serde_json::Value { serde_json::from_str(&node.call("POST", "/debug/vars", "").body).expect("JSON") };
    let before = get();
    for pointer in
        ["/http/queued_executions_wait", "/db/executions", "/queue/num_flush", "/memstats/Alloc", "/cmdline/0"]
    {
        assert!(before.pointer(pointer).is_some(), "{pointer}");
    }
    node.call("POST", "/db/execute", r#"["INSERT","INSERT"]"#);
    node.call("GET", "/db/execute", "");
    let after = get();
    // Other tests of this process count too.
    let grown = |pointer: &str| {
        let number = |from: &serde_json::Value| from.pointer(pointer).and_then(|n| n.as_u64()).expect("a number");
        number(&after) - number(&before)
    };
    assert!(grown("/http/executions") >= 2, "a refused method is a hit too");
    assert!(grown("/http/execute_stmts_rx") >= 2);
    assert_eq!(node.call("GET", "/debug/vars?key=nothing", "").body, "{\n\n}\n");
}

#[test]
fn the_other_endpoints() {
    let node = Node::start(&[]);
    let root = node.call("GET", "/", "");
    assert_eq!((root.status, root.header("Location")), (302, Some("/console/")));
    assert_eq!(root.body, "<a href=\"/console/\">Found</a>.\n\n");
    let console = node.call("POST", "/console", "");
    assert_eq!((console.status, console.header("Location"), console.body.as_str()), (301, Some("/console/"), ""));
    let page = node.call("GET", "/console/", "");
    assert_eq!(page.header("Content-Type"), Some("text/html; charset=utf-8"));
    for line in page.body.lines().filter(|line| line.contains("static/")) {
        let path = line.split('"').find(|part| part.starts_with("static/")).expect("a path");
        assert_eq!(node.call("GET", &format!("/console/{path}"), "").status, 200, "{path}");
    }
    assert_text(&node.call("GET", "/console/nope", ""), 404, "404 page not found");
    assert_text(&node.call("GET", "/consolefoo", ""), 404, "404 page not found");
    let licenses = node.call("GET", "/licenses", "");
    assert!(licenses.body.contains("MIT License") && licenses.header("Content-Type") == TEXT);
    let snapshot = node.call("POST", "/snapshot?trailing_logs=100", "");
    assert_eq!((snapshot.status, snapshot.body.as_str(), snapshot.header("Content-Type")), (200, "", None));
    assert_eq!(node.call("POST", "/snapshot", "").status, 204, "the fake has something new only once");
    let reap = node.call("POST", "/reap", "");
    assert_eq!(reap.body.trim_end(), r#"{"snapshots_reaped":0,"wals_checkpointed":0}"#);
}
