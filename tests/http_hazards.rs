//! Everything that the public port must survive, played against a server in a process of its own: the offender loses its
//! connection or gets its status, an honest client is served meanwhile, and afterwards nothing is left behind.

// tiny_http survives few of them; that is why it is not the default.
#![cfg(not(feature = "tiny-http"))]

mod hazards;

use hazards::{Client, Honest, Server, random_bytes, serve_if_asked};
use std::io::Write;
use std::time::{Duration, Instant};

/// Not a test: the server's process, see `hazards`.
#[test]
fn server_process() {
    serve_if_asked();
}

#[test]
fn plain_requests_are_answered() {
    let mut server = Server::start("");
    let mut client = Client::connect(server.address);
    let first = client.get("/what?a=b");
    assert_eq!((first.status, first.text()), (200, "GET /what a=b 0"));
    assert!(first.header("date").unwrap().ends_with(" GMT"));
    assert_eq!(first.header("connection"), None);
    let posted = client.ask("POST /what HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello");
    assert_eq!(posted.text(), "POST /what  5");
    assert_eq!(client.get("/later").text(), "later");
    let options = client.ask("OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(options.status, 200);
    let any = client.ask("PATCH /what HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(any.text(), "PATCH /what  0");
    let absolute = client.ask("GET http://elsewhere/what?q HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(absolute.text(), "GET /what q 0");
    let empty = client.get("/empty");
    assert_eq!((empty.status, empty.header("content-length")), (204, None));
    let chunked = client.ask(
        "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nTrailer: z\r\n\r\n",
    );
    assert_eq!(chunked.text(), "abcde");
    let streamed = client.get("/stream?123456");
    assert_eq!((streamed.body.len(), streamed.header("transfer-encoding")), (123_456, Some("chunked")));
    let large = client.get("/large?3000000");
    assert_eq!(large.body.len(), 3_000_000);
    let bad_path = client.get("/a%zz");
    assert_eq!((bad_path.status, bad_path.text()), (400, "400 Bad Request"));
    assert!(client.is_closed());
    server.check_nothing_left();
}

#[test]
fn head_is_answered_like_get_without_the_body() {
    let mut server = Server::start("");
    let mut client = Client::connect(server.address);
    for path in ["/", "/large?100000", "/stream?1000"] {
        client.say(format!("HEAD {path} HTTP/1.1\r\nHost: x\r\n\r\n"));
        let head = client.try_answer(false).unwrap();
        let get = client.get(path);
        assert_eq!(head.header("content-length"), get.header("content-length"));
        assert_eq!(head.header("transfer-encoding"), get.header("transfer-encoding"));
    }
    drop(client);
    server.check_nothing_left();
}

#[test]
fn http_1_0_is_understood() {
    let mut server = Server::start("");
    let mut client = Client::connect(server.address);
    let kept = client.ask("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    assert_eq!((kept.status, kept.header("connection")), (200, Some("keep-alive")));
    let last = client.ask("GET / HTTP/1.0\r\n\r\n");
    assert_eq!((last.status, last.header("connection")), (200, Some("close")));
    assert!(client.is_closed());
    let mut client = Client::connect(server.address);
    let streamed = client.ask("GET /stream?50000 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    assert_eq!((streamed.body.len(), streamed.header("transfer-encoding")), (50_000, None));
    let mut client = Client::connect(server.address);
    let closed = client.ask("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert_eq!((closed.status, closed.header("connection")), (200, Some("close")));
    assert!(client.is_closed());
    server.check_nothing_left();
}

#[test]
fn continue_is_said_only_for_bodies_that_are_wanted() {
    let mut server = Server::start("");
    let expecting = |path: &str, length: &str| {
        format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\nExpect: 100-continue\r\n\r\n")
    };
    for size in [5, 1_000_000] {
        let body = random_bytes(size);
        let mut client = Client::connect(server.address);
        assert_eq!(client.ask(expecting("/echo", &size.to_string())).status, 100);
        assert_eq!(client.ask(&body).body, body);
        // A client that does not wait gets no interim answer, or one: both are right.
        client.say(expecting("/echo", &size.to_string()));
        client.say(&body);
        let mut answer = client.answer();
        if answer.status == 100 {
            answer = client.answer();
        }
        assert_eq!(answer.body, body);
    }
    for (path, length, status) in [("/", "10000000000000", 413), ("/refused", "5", 401)] {
        let mut client = Client::connect(server.address);
        assert_eq!(client.ask(expecting(path, length)).status, status);
        client.say("hello");
        assert!(client.is_closed());
    }
    let mut client = Client::connect(server.address);
    assert_eq!(client.ask("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: x\r\n\r\n").status, 417);
    server.check_nothing_left();
}

#[test]
fn refused_requests_get_their_status_and_lose_their_connection() {
    let mut server = Server::start("");
    let honest = Honest::start(server.address);
    let post = |lines: &str| format!("POST / HTTP/1.1\r\nHost: x\r\n{lines}\r\n\r\n");
    let chunked = |chunks: &str| format!("{}{chunks}", post("Transfer-Encoding: chunked"));
    let cases = [
        (post("Content-Length: 10000000000000"), 413),
        (post("Content-Length: 18446744073709551615"), 413),
        (post("Content-Length: -5"), 400),
        (post("Content-Length: +5"), 400),
        (post("Content-Length: 5, 6"), 400),
        (post("Content-Length: 5\r\nContent-Length: 6"), 400),
        (post("Content-Length: 5\r\nTransfer-Encoding: chunked"), 400),
        (post("Transfer-Encoding: gzip, chunked"), 501),
        (post("Transfer-Encoding: identity"), 501),
        ("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned(), 400),
        (chunked("10000000000000\r\nabc"), 400),
        (chunked("20000000\r\nabc"), 413),
        (chunked("xyz\r\nabc"), 400),
        (chunked("3\r\nabcdef\r\n"), 400),
        ("GET / HTTP/2.0\r\nHost: x\r\n\r\n".to_owned(), 505),
        ("complete garbage\r\n\r\n".to_owned(), 400),
        ("\u{16}\u{3}\u{1}".to_owned(), 400),
        ("GET / HTTP/1.1\nHost: x\n\n".to_owned(), 400),
        ("GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n".to_owned(), 400),
        ("GET / HTTP/1.1\r\nHost : x\r\n\r\n".to_owned(), 400),
        ("GET / HTTP/1.1\r\nHost: x\r\nA: \0\r\n\r\n".to_owned(), 400),
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), 400),
        (format!("GET /{} HTTP/1.1\r\n", "a".repeat(100_000)), 431),
        (format!("GET / HTTP/1.1\r\nHost: x\r\n{}", "Some-Header: with a value\r\n".repeat(10_000)), 431),
    ];
    for (request, status) in &cases {
        let mut client = Client::connect(server.address);
        let answer = client.ask(request);
        let start = &request[..request.len().min(60)];
        assert_eq!(answer.status, *status, "{start:?}");
        assert_eq!(answer.header("connection"), Some("close"), "{start:?}");
        assert!(client.is_closed(), "{start:?}");
    }
    honest.check("refused requests");
    assert_eq!(server.counter("bad"), cases.len() as u64);
    server.check_nothing_left();
}

#[test]
fn a_refused_body_does_not_hide_its_answer() {
    let mut server = Server::start("");
    let mut client = Client::connect(server.address);
    client.say("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 300000000\r\n\r\n");
    // Eight megabytes of a body that nobody wants: the answer must not drown in a reset.
    client.say(vec![b'x'; 8_000_000]);
    assert_eq!(client.answer().status, 413);
    drop(client);
    server.check_nothing_left();
}

#[test]
fn bodies_that_are_cut_short_are_never_taken_for_whole() {
    let mut server = Server::start("");
    let head = "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    for rest in ["", "5", "5\r\n", "5\r\nhel", "5\r\nhello", "5\r\nhello\r\n", "5\r\nhello\r\n0\r\n"] {
        let mut client = Client::connect(server.address);
        client.say(format!("{head}{rest}"));
        client.say_no_more();
        assert_eq!(client.answer().status, 400, "{rest:?}");
        assert!(client.is_closed());
    }
    for rest in ["", "hell"] {
        let mut client = Client::connect(server.address);
        client.say(format!("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n{rest}"));
        client.say_no_more();
        assert_eq!(client.answer().status, 400, "{rest:?}");
        assert!(client.is_closed());
    }
    assert_eq!(server.counter("requests"), 0);
    server.check_nothing_left();
}

#[test]
fn a_half_closed_connection_still_gets_its_answer() {
    let mut server = Server::start("");
    for path in ["/", "/later", "/large?5000000", "/stream?5000000"] {
        let mut client = Client::connect(server.address);
        client.say(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"));
        client.say_no_more();
        assert_eq!(client.answer().status, 200, "{path}");
        assert!(client.is_closed());
    }
    server.check_nothing_left();
}

#[test]
fn requests_in_two_pieces_are_the_same_requests() {
    let mut server = Server::start("");
    let text = "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nT: u\r\n\r\n\
        POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello";
    let mut client = Client::connect(server.address);
    for at in 0..=text.len() {
        client.say(&text[..at]);
        // Most splits become two reads, some are joined by chance: the result must be the same.
        std::thread::yield_now();
        client.say(&text[at..]);
        assert_eq!((client.answer().text(), client.answer().text()), ("abc", "hello"), "split at {at}");
    }
    for byte in text.as_bytes().chunks(1) {
        client.say(byte);
    }
    assert_eq!((client.answer().text(), client.answer().text()), ("abc", "hello"));
    drop(client);
    server.check_nothing_left();
}

#[test]
fn large_bodies_go_to_a_scratch_file_and_come_back_whole() {
    let mut server = Server::start("");
    let honest = Honest::start(server.address);
    let body = random_bytes(20_000_000);
    let mut client = Client::connect(server.address);
    client.say(format!("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", body.len()));
    client.say(&body);
    let answer = client.answer();
    assert_eq!(answer.header("x-kind"), Some("file"));
    assert!(answer.body == body);
    client.say("POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
    for piece in body[..3_000_000].chunks(70_001) {
        client.say(format!("{:x}\r\n", piece.len()));
        client.say(piece);
        client.say("\r\n");
    }
    client.say("0\r\n\r\n");
    assert!(client.answer().body == body[..3_000_000]);
    drop(client);
    honest.check("large bodies");
    server.check_nothing_left();
}

#[test]
fn half_sent_heads_hold_no_worker_and_are_cut() {
    let mut server = Server::start("");
    let honest = Honest::start(server.address);
    let mut clients: Vec<Client> = (0..2_000).map(|_| Client::connect(server.address)).collect();
    let start = Instant::now();
    for client in &mut clients {
        client.say("GET / HTTP/1.1\r\nHost: x\r\nA: ");
    }
    // Half of them drip.
    while start.elapsed() < Duration::from_millis(1_500) {
        for client in clients.iter_mut().step_by(2) {
            client.say("b");
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    for client in &mut clients {
        client.drain();
    }
    assert!(start.elapsed() < Duration::from_secs(8), "cut at the deadline: {:?}", start.elapsed());
    drop(clients);
    honest.check("half-sent heads");
    assert_eq!(server.counter("late"), 2_000);
    assert_eq!(server.counter("workers"), 2);
    server.check_nothing_left();
}

#[test]
fn large_half_sent_heads_cannot_fill_the_memory() {
    let mut server = Server::start("head_ms=3000");
    let honest = Honest::start(server.address);
    let mut clients: Vec<Client> = (0..1_000).map(|_| Client::connect(server.address)).collect();
    let head = format!("GET / HTTP/1.1\r\nHost: x\r\nA: {}", "b".repeat(60_000));
    for client in &mut clients {
        client.say(&head);
    }
    honest.check("large half-sent heads");
    let (now_kb, _) = server.resident_kb();
    assert!(now_kb < 100_000, "{now_kb} kB");
    drop(clients);
    server.check_nothing_left();
}

#[test]
fn slow_bodies_hold_no_worker_and_are_cut() {
    let mut server = Server::start("");
    let honest = Honest::start(server.address);
    let mut clients: Vec<Client> = (0..200).map(|_| Client::connect(server.address)).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        let framing = if number % 2 == 0 { "Content-Length: 100000" } else { "Transfer-Encoding: chunked" };
        client.say(format!("POST /echo HTTP/1.1\r\nHost: x\r\n{framing}\r\n\r\n"));
        client.say(if number % 2 == 0 { "" } else { "186a0\r\n" });
    }
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(1_500) {
        for client in &mut clients {
            client.say("x");
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    for client in &mut clients {
        assert_eq!(client.answer().status, 408);
        client.drain();
    }
    honest.check("slow bodies");
    assert_eq!(server.counter("workers"), 2);
    server.check_nothing_left();
}

#[test]
fn slow_readers_are_cut_and_cannot_fill_the_memory() {
    // Each worker may hold one answer that is being made, so their number counts here.
    let mut server = Server::start("workers_max=6");
    let honest = Honest::start(server.address);
    // A hundred answers of 6 MB that nobody reads: 600 MB if they stayed in memory.
    let mut clients: Vec<Client> = (0..100).map(|_| Client::connect(server.address)).collect();
    for client in &mut clients {
        client.say("GET /large?6000000 HTTP/1.1\r\nHost: x\r\n\r\n");
    }
    server.wait_for("requests", |count| count >= 100);
    let start = Instant::now();
    // One reads steadily but too slowly for the whole.
    let mut slow = Client::connect(server.address);
    slow.say("GET /large?10000000 HTTP/1.1\r\nHost: x\r\n\r\n");
    server.wait_for("cut", |count| count >= 100);
    assert!(start.elapsed() < Duration::from_secs(8));
    let total: usize = clients.iter_mut().map(Client::drain).sum();
    assert!(total < 100 * 6_000_000, "they were cut");
    honest.check("slow readers");
    assert!(server.counter("spooled") > 0);
    drop((clients, slow));
    server.check_nothing_left();
}

#[test]
fn slow_readers_of_streams_do_not_hold_all_workers() {
    let mut server = Server::start("");
    let honest = Honest::start(server.address);
    let mut clients: Vec<Client> = (0..40).map(|_| Client::connect(server.address)).collect();
    for client in &mut clients {
        client.say("GET /stream?50000000 HTTP/1.1\r\nHost: x\r\n\r\n");
    }
    let mut reader = Client::connect(server.address);
    server.wait_for("cut", |count| count >= 8);
    // Streams that had to wait for the slow ones get their turn.
    assert_eq!(reader.get("/stream?1000000").body.len(), 1_000_000);
    drop(clients);
    drop(reader);
    honest.check("slow readers of streams");
    server.check_nothing_left();
}

#[test]
fn streams_that_fail_are_not_taken_for_whole() {
    let mut server = Server::start("");
    for path in ["/stream-fails", "/stream-panics"] {
        let mut client = Client::connect(server.address);
        client.say(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"));
        assert!(client.try_answer(true).is_err(), "{path}");
    }
    assert_eq!((server.counter("cut"), server.counter("panics")), (2, 1));
    server.check_nothing_left();
}

#[test]
fn ten_thousand_pipelined_requests_are_answered_in_order() {
    let mut server = Server::start("");
    let honest = Honest::start(server.address);
    let mut client = Client::connect(server.address);
    let mut writer = client.stream.try_clone().unwrap();
    let thread = std::thread::spawn(move || {
        for number in 0..10_000 {
            let path = if number % 1_000 == 999 { "/later" } else { "/what" };
            writer.write_all(format!("GET {path}?{number} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).unwrap();
        }
    });
    for number in 0..10_000 {
        let answer = client.answer();
        if number % 1_000 == 999 {
            assert_eq!(answer.text(), "later");
        } else {
            assert_eq!(answer.text(), format!("GET /what {number} 0"));
        }
    }
    thread.join().unwrap();
    drop(client);
    honest.check("pipelining");
    server.check_nothing_left();
}

#[test]
fn pipelining_without_reading_is_held_back() {
    let mut server = Server::start("answer_ms=2000");
    let honest = Honest::start(server.address);
    let mut client = Client::connect(server.address);
    client.stream.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
    let requests = "GET /large?10000 HTTP/1.1\r\nHost: x\r\n\r\n".repeat(1_000);
    let mut said = 0;
    // Some megabytes fit into the kernel's buffers; then the server must stop reading.
    while said < 200_000_000 {
        match client.stream.write(requests.as_bytes()) {
            Ok(count) => said += count,
            Err(_) => break,
        }
    }
    assert!(said < 200_000_000, "the client was not held back");
    let (now_kb, _) = server.resident_kb();
    assert!(now_kb < 60_000, "{now_kb} kB");
    honest.check("pipelining without reading");
    drop(client);
    server.check_nothing_left();
}

#[test]
fn two_thousand_resets_do_no_harm() {
    let mut server = Server::start("");
    let honest = Honest::start(server.address);
    let clients: Vec<Client> = (0..2_000)
        .map(|number| {
            let mut client = Client::connect(server.address);
            client.say(
                [
                    "GET / HT",
                    "GET /later HTTP/1.1\r\nHost: x\r\n\r\n",
                    "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc",
                    "",
                ][number % 4],
            );
            client
        })
        .collect();
    for client in &clients {
        // Closing with a linger of zero sends a reset.
        rustix::net::sockopt::set_socket_linger(&client.stream, Some(Duration::ZERO)).unwrap();
    }
    drop(clients);
    honest.check("resets");
    server.check_nothing_left();
}

#[test]
fn the_descriptor_limit_is_survived() {
    let mut server = Server::start("descriptors=64");
    // As many as the limit lets the server think it can have and many more, all idle.
    let clients: Vec<Client> = (0..200).map(|_| Client::connect(server.address)).collect();
    let honest = Honest::start(server.address);
    std::thread::sleep(Duration::from_millis(500));
    let lost = honest.check_but_for_lost("descriptor limit");
    assert!(lost < 20, "{lost} connections of the honest client were closed");
    drop(clients);
    // Afterwards it is as before.
    assert_eq!(Client::connect(server.address).get("/").status, 200);
    server.check_nothing_left();
}

#[test]
fn the_connection_limit_replaces_idle_ones_and_refuses_cleanly() {
    let mut server = Server::start("connections_max=20 workers_max=24");
    // Twenty that are in the middle of something leave no room ...
    let mut busy: Vec<Client> = (0..20).map(|_| Client::connect(server.address)).collect();
    for client in &mut busy {
        client.say("GET /block?1500 HTTP/1.1\r\nHost: x\r\n\r\n");
    }
    server.wait_for("requests", |count| count == 20);
    server.wait_for("connections", |count| count == 20);
    let mut late = Client::connect(server.address);
    assert_eq!(late.answer().status, 503);
    assert!(late.is_closed());
    for client in &mut busy {
        assert_eq!(client.answer().status, 200);
    }
    // ... idle ones do.
    let mut next = Client::connect(server.address);
    assert_eq!(next.get("/").status, 200);
    assert!(server.counter("evicted") > 0);
    drop((busy, next, late));
    server.check_nothing_left();
}

#[test]
fn five_thousand_idle_connections_cost_little() {
    let mut server = Server::start("");
    let honest = Honest::start(server.address);
    let (before_kb, _) = server.resident_kb();
    let mut clients: Vec<Client> = Vec::new();
    for _ in 0..5_000 {
        let mut client = Client::connect(server.address);
        client.say("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        clients.push(client);
    }
    for client in &mut clients {
        assert_eq!(client.answer().status, 200);
    }
    let (now_kb, _) = server.resident_kb();
    println!("{} bytes per idle connection", (now_kb - before_kb) * 1024 / 5_000);
    assert!(now_kb - before_kb < 5_000 * 6, "{} kB", now_kb - before_kb);
    assert_eq!(server.counter("connections") / 10, 500);
    honest.check("idle connections");
    drop(clients);
    server.check_nothing_left();
}

#[test]
fn idle_connections_are_closed_after_a_while() {
    let mut server = Server::start("idle_ms=300");
    let mut fresh = Client::connect(server.address);
    let mut used = Client::connect(server.address);
    assert_eq!(used.get("/").status, 200);
    assert!(fresh.is_closed() && used.is_closed());
    server.check_nothing_left();
}

#[test]
fn panics_are_answered_and_counted() {
    let mut server = Server::start("");
    let mut client = Client::connect(server.address);
    for path in ["/panic", "/panic-later", "/drop"] {
        for _ in 0..10 {
            assert_eq!(client.get(path).status, 500, "{path}");
        }
    }
    assert_eq!(client.get("/").status, 200);
    assert_eq!((server.counter("panics"), server.counter("unanswered")), (20, 20));
    drop(client);
    server.check_nothing_left();
}

#[test]
fn three_hundred_waiting_requests_starve_nobody() {
    let mut server = Server::start("");
    let honest = Honest::start(server.address);
    let mut clients: Vec<Client> = (0..300).map(|_| Client::connect(server.address)).collect();
    for _ in 0..10 {
        for client in &mut clients {
            client.say("GET /later HTTP/1.1\r\nHost: x\r\n\r\n");
        }
        for client in &mut clients {
            assert_eq!(client.answer().text(), "later");
        }
    }
    drop(clients);
    honest.check("waiting requests");
    server.check_nothing_left();
}

#[test]
fn blocked_handlers_make_the_pool_grow_within_its_bound() {
    let mut server = Server::start("workers_max=16");
    let honest = Honest::start(server.address);
    let mut clients: Vec<Client> = (0..12).map(|_| Client::connect(server.address)).collect();
    for client in &mut clients {
        client.say("GET /block?1000 HTTP/1.1\r\nHost: x\r\n\r\n");
    }
    for client in &mut clients {
        assert_eq!(client.answer().text(), "blocked");
    }
    honest.check("blocked handlers");
    let workers = server.counter("workers");
    assert!((12..=16).contains(&workers), "{workers}");
    drop(clients);
    server.check_nothing_left();
}

#[test]
fn a_stop_lets_requests_finish_and_cuts_the_rest() {
    let mut server = Server::start("");
    let mut idle = Client::connect(server.address);
    assert_eq!(idle.get("/").status, 200);
    let mut half = Client::connect(server.address);
    half.say("GET / HTTP/1.1\r\nHost");
    let mut quick = Client::connect(server.address);
    quick.say("GET /block?300 HTTP/1.1\r\nHost: x\r\n\r\n");
    let mut waiting = Client::connect(server.address);
    waiting.say("GET /later HTTP/1.1\r\nHost: x\r\n\r\n");
    let mut long = Client::connect(server.address);
    long.say("GET /block?3000 HTTP/1.1\r\nHost: x\r\n\r\n");
    server.wait_for("requests", |count| count >= 4);
    let cut = server.stop(1_000);
    assert_eq!(cut, 1);
    assert!(idle.is_closed() && half.is_closed());
    let answer = quick.answer();
    assert_eq!((answer.text(), answer.header("connection")), ("blocked", Some("close")));
    assert_eq!(waiting.answer().text(), "later");
    assert!(long.is_closed());
    assert!(Client::try_connect(server.address).is_err());
}
