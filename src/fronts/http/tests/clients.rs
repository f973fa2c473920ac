//! Tests with clients that are broken, slow, many or hostile, and of the stop.

use std::sync::Mutex;

use super::*;

#[test]
fn what_is_not_http_is_not_answered_as_if_it_were() {
    let server = Server::start();
    let tls: &[u8] = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
    let http2: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let all_bytes: Vec<u8> = (0..=255).collect();
    let mut add = [0_u8; 141];
    add[1] = 139;
    for bytes in [
        tls,
        http2,
        &all_bytes,
        &add,
        b"\0",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"",
    ] {
        let mut stream = server.connect();
        stream.write_all(bytes).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let answer = read_until_closed(&mut stream);
        assert!(!answer.starts_with(b"HTTP/1.1 2"), "{bytes:?}: {answer:?}");
        assert_eq!(server.get("/healthz").code, 200, "after {bytes:?}");
    }
}

#[test]
fn an_endless_header_is_cut_off() {
    let server = Server::start();
    let mut stream = server.connect();
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nCookie: ")
        .unwrap();
    let sent = stream
        .write_all(&vec![b'a'; 1 << 20])
        .and_then(|()| stream.write_all(b"\r\n\r\n"));
    sent.or_else(|error| {
        if is_closed(&error) {
            Ok(())
        } else {
            Err(error)
        }
    })
    .unwrap();
    let answer = read_until_closed(&mut stream);
    assert!(
        answer.is_empty() || answer.starts_with(b"HTTP/1.1 431"),
        "{answer:?}"
    );
    assert_eq!(server.get("/healthz").code, 200);
}

#[test]
fn many_headers_are_refused() {
    let server = Server::start();
    let mut stream = server.connect();
    let headers = "A: b\r\n".repeat(1_000);
    write!(stream, "GET / HTTP/1.1\r\n{headers}\r\n").unwrap();
    assert!(read_until_closed(&mut stream).starts_with(b"HTTP/1.1 431"));
}

#[test]
fn a_body_is_not_waited_for() {
    let server = Server::start();
    let mut stream = server.connect();
    stream
        .write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n")
        .unwrap();
    let answer = read_until_closed(&mut stream);
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{answer:?}");
}

#[test]
fn silent_clients_cannot_keep_others_out() {
    // The other limits are out of reach, so only the rule for crowds can let a client in.
    let hour = Duration::from_secs(3600);
    let limits = Limits {
        header_read: hour,
        connection_lifetime: hour,
        connections_max: 64,
        ..Limits::default()
    };
    let server = Server::with(limits, Arc::new(Fake::new(true)));
    let mut silent: Vec<TcpStream> = (0..100).map(|_| server.connect()).collect();
    for path in PATHS {
        assert_eq!(server.get(path).code, 200, "{path}");
    }
    let first = &mut silent[0];
    assert_eq!(
        read_until_closed(first),
        b"",
        "the one that was silent longest had to leave"
    );
}

#[test]
fn busy_clients_cannot_keep_others_out() {
    let hour = Duration::from_secs(3600);
    let limits = Limits {
        connections_max: 1,
        crowded_patience: hour,
        ..Limits::default()
    };
    let server = Server::with(limits, Arc::new(Fake::new(true)));
    let mut busy = server.connect();
    busy.write_all(KEEP).unwrap();
    assert_eq!(Answer::read(&mut busy).unwrap().header("connection"), "");
    let mut waiting = server.connect();
    waiting.write_all(KEEP).unwrap();
    let start = Instant::now();
    loop {
        assert!(start.elapsed() < FAILSAFE, "never asked to leave");
        busy.write_all(KEEP).unwrap();
        let answer = Answer::read(&mut busy).unwrap();
        assert_eq!(answer.code, 200);
        if answer.header("connection") == "close" {
            break;
        }
    }
    assert_eq!(read_until_closed(&mut busy), b"");
    assert_eq!(Answer::read(&mut waiting).unwrap().code, 200);
}

#[test]
fn a_header_must_come_in_time() {
    let limits = Limits {
        header_read: Duration::from_secs(1),
        ..Limits::default()
    };
    let server = Server::with(limits, Arc::new(Fake::new(true)));
    let mut silent = server.connect();
    let mut half = server.connect();
    half.write_all(b"GET / HTTP/1.1\r\nHo").unwrap();
    let mut idle = server.connect();
    idle.write_all(KEEP).unwrap();
    assert_eq!(Answer::read(&mut idle).unwrap().code, 200);
    for stream in [&mut silent, &mut half, &mut idle] {
        assert_eq!(read_until_closed(stream), b"");
    }
}

/// Sends requests, and reads no answer until neither side's buffers take more.
fn fill_without_reading(server: &Server) -> TcpStream {
    let mut stream = server.connect();
    stream.set_nonblocking(true).unwrap();
    let requests = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(1_000);
    let start = Instant::now();
    let mut stuck_since = Instant::now();
    // The write is stuck for 100 ms while the server answers others, so the server's send buffer is full as well.
    while stuck_since.elapsed() < Duration::from_millis(100) {
        assert!(
            start.elapsed() < FAILSAFE,
            "the server reads on without end"
        );
        match stream.write(&requests) {
            Ok(_) => stuck_since = Instant::now(),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                assert_eq!(server.get("/healthz").code, 200);
            }
            Err(error) => panic!("closed before its time: {error}"),
        }
    }
    stream.set_nonblocking(false).unwrap();
    stream
}

#[test]
fn a_client_that_never_reads_is_cut_off() {
    let limits = Limits {
        connection_lifetime: Duration::from_millis(300),
        ..Limits::default()
    };
    let server = Server::with(limits, Arc::new(Fake::new(true)));
    let mut stream = server.connect();
    let requests = b"GET / HTTP/1.1
Host: localhost

"
    .repeat(1_000);
    // A write blocks once the buffers are full, until the server is gone and resets the connection.
    let error = loop {
        if let Err(error) = stream.write_all(&requests) {
            break error;
        }
    };
    assert!(is_closed(&error), "{error}");
    assert_eq!(server.get("/healthz").code, 200);
}

#[test]
fn stop_does_not_wait_for_clients() {
    let server = Server::start();
    let address = server.address;
    let _silent: Vec<TcpStream> = (0..10).map(|_| server.connect()).collect();
    let mut half = server.connect();
    half.write_all(b"GET / HTTP/1.1\r\nHo").unwrap();
    let _never_reads = fill_without_reading(&server);
    let mut kept = server.connect();
    kept.write_all(KEEP).unwrap();
    assert_eq!(Answer::read(&mut kept).unwrap().code, 200);

    let took = server.stop();
    // The server promises 200 ms; the rest is for a machine that is busy with other tests.
    assert!(took < Duration::from_secs(2), "took {took:?}");
    assert_eq!(read_until_closed(&mut kept), b"");
    assert_eq!(read_until_closed(&mut half), b"");
    let refused = TcpStream::connect(address).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
}

/// A source that stops the server when it is asked.
struct StopsWhenAsked(Mutex<Option<oneshot::Sender<()>>>);

impl StatusSource for StopsWhenAsked {
    fn status(&self) -> Status {
        drop(self.0.lock().unwrap().take());
        fake_status()
    }

    fn detail(&self, _: &DetailQuestion) -> Result<Detail, DetailError> {
        unreachable!("only /status is asked for");
    }

    fn top(&self, _: &TopQuestion, _: bool) -> Result<TopDocument, TopError> {
        unreachable!("only /status is asked for");
    }
}

#[test]
fn an_answer_under_way_is_finished() {
    let source = Arc::new(StopsWhenAsked(Mutex::new(None)));
    let mut server = Server::with(Limits::default(), source.clone());
    *source.0.lock().unwrap() = server.stop.take();
    let answer = server.get("/status");
    assert_eq!(answer.code, 200);
    assert_eq!(answer.body, serde_json::to_string(&fake_status()).unwrap());
}
