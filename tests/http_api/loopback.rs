//! The front behind the real engine, over a socket: what only shows when bytes travel.

use crate::fake::Node;
use ferrolite::http::engine::{Engine, EngineConfig};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(5);

pub struct Client {
    reader: BufReader<TcpStream>,
}

impl Client {
    pub fn connect(engine: &Engine) -> Client {
        let stream = TcpStream::connect(engine.addresses()[0]).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a valid timeout");
        Client { reader: BufReader::new(stream) }
    }

    fn send(&mut self, request: &str) {
        self.reader.get_mut().write_all(request.as_bytes()).expect("it reads");
    }

    /// Reads one answer: its head in lower case, and its body.
    fn answer(&mut self, has_body: bool) -> (String, String) {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(self.reader.read_line(&mut head).expect("an answer") > 0, "closed after {head:?}");
        }
        let head = head.to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let mut body = vec![0; length.map_or(0, |length| length.parse().expect("a number"))];
        if !has_body {
            body.clear();
        }
        self.reader.read_exact(&mut body).expect("the whole body");
        (head, String::from_utf8(body).expect("UTF-8"))
    }

    pub fn call(&mut self, request: &str) -> (String, String) {
        self.send(request);
        self.answer(!request.starts_with("HEAD"))
    }
}

pub fn start(node: Node) -> (Engine, Arc<crate::fake::Fake>) {
    let backend = node.backend.clone();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let engine = Engine::start(vec![listener], EngineConfig::default(), Arc::new(node.front)).expect("threads");
    (engine, backend)
}

#[test]
fn one_connection_many_requests() {
    let (engine, _) = start(Node::start(&[]));
    let mut client = Client::connect(&engine);
    let result = r#"{"results":[{"last_insert_id":7,"rows_affected":1}]}"#;

    let (head, body) = client.call("POST /db/execute HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n[\"INSERT\"]");
    assert!(head.starts_with("http/1.1 200 ") && head.contains("x-rqlite-served-by: localhost:4001\r\n"), "{head}");
    assert_eq!(body, result);
    let chunked = "POST /db/execute HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n[\"IN\r\n6\r\nSERT\"]\r\n0\r\n\r\n";
    assert_eq!(client.call(chunked).1, result);
    let (head, body) = client.call("HEAD / HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(head.starts_with("http/1.1 302 ") && head.contains("location: /console/\r\n"), "{head}");
    assert_eq!(body, "");
    let (head, body) = client.call("GET /db/execute HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(head.starts_with("http/1.1 405 ") && head.contains("content-length: 0\r\n"), "{head}");
    assert_eq!((body.as_str(), head.matches("x-rqlite-version").count()), ("", 1));
    let (head, body) = client.call("POST /snapshot HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
    assert!(head.starts_with("http/1.1 200 ") && !head.contains("\ncontent-type:"), "{head}");
    assert_eq!(body, "");
    let (head, _) = client.call("POST /snapshot HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
    assert!(head.starts_with("http/1.1 204 ") && !head.contains("\ncontent-length:"), "{head}");
    let (_, body) = client.call("GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(body, "[+]node ok\n[+]leader ok\n[+]store ok\n[+]db ok");
    assert_eq!(engine.stop(PATIENCE), 0);
}

#[test]
fn writes_that_wait_for_the_log_hold_no_worker() {
    let (engine, backend) = start(Node::start(&[]));
    backend.hold_writes();
    let waiting = 300;
    let mut clients: Vec<Client> = (0..waiting).map(|_| Client::connect(&engine)).collect();
    for client in &mut clients {
        client.send("POST /db/execute HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n[\"INSERT\"]");
    }
    let until = Instant::now() + PATIENCE;
    while backend.held_len() < waiting {
        assert!(Instant::now() < until, "{} of {waiting} requests arrived", backend.held_len());
        std::thread::yield_now();
    }
    let (_, body) = Client::connect(&engine).call("GET /readyz?noleader HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(body, "[+]node ok", "others are served meanwhile");
    assert!(engine.workers() < 100, "{} workers", engine.workers());
    for _ in 0..waiting {
        backend.take_held()();
    }
    for client in &mut clients {
        assert_eq!(client.answer(true).1, r#"{"results":[{"last_insert_id":7,"rows_affected":1}]}"#);
    }
    assert_eq!(engine.stop(PATIENCE), 0);
}
