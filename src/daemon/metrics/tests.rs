//! Clients of all sorts at the counts.

use tokio::io::{DuplexStream, duplex};

use super::*;

struct One;

impl Source for One {
    fn measure(&self, out: &mut Exposition) {
        out.family("one", Kind::Counter, "One.");
        out.sample(&[], 1);
    }
}

/// What comes back when that is sent.
async fn say(request: &[u8]) -> String {
    let (mut here, there) = duplex(1 << 20);
    here.write_all(request).await.unwrap();
    // It may have answered before all was read.
    let _ = answer(there, &One).await;
    let mut said = String::new();
    here.read_to_string(&mut said).await.unwrap();
    said
}

#[tokio::test]
async fn the_counts_are_answered_with_their_length() {
    let said =
        say(b"GET /metrics?x=1 HTTP/1.1\r\nHost: 127.0.0.1:9575\r\nAccept: */*\r\n\r\n").await;
    let (head, body) = said.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(head.contains("text/plain; version=0.0.4"), "{head}");
    assert!(
        head.contains(&format!("Content-Length: {}\r\n", body.len())),
        "{head}"
    );
    assert_eq!(body, "# HELP one One.\n# TYPE one counter\none 1\n");
}

#[tokio::test]
async fn whatever_else_is_asked_is_refused() {
    for (request, status) in [
        ("GET / HTTP/1.1\r\n\r\n", 404),
        ("POST /metrics HTTP/1.1\r\n\r\n", 405),
        ("GET /metrics HTTP/2\r\n\r\n", 400),
        ("GET /metrics\r\n\r\n", 400),
        ("GET /metrics HTTP/1.1\r\nnonsense\r\n\r\n", 400),
        ("\r\n\r\n", 400),
        ("GET /metrics HTTP/1.1\r\nHost: evil.example\r\n\r\n", 403),
        ("GET /metrics HTTP/1.1\r\nhost: 10.0.0.1:9575\r\n\r\n", 403),
        ("GET /metrics HTTP/1.1\r\nHost: [::1]:9575\r\n\r\n", 200),
        ("GET /metrics HTTP/1.1\r\nHost: localhost:9575\r\n\r\n", 200),
        ("GET /metrics HTTP/1.0\r\n\r\n", 200),
    ] {
        let said = say(request.as_bytes()).await;
        assert!(
            said.starts_with(&format!("HTTP/1.1 {status} ")),
            "{request:?}: {said}"
        );
    }
    assert!(say(b"\xff\xfe\r\n\r\n").await.starts_with("HTTP/1.1 400 "));
}

#[tokio::test]
async fn a_request_without_end_is_refused_after_a_fixed_length() {
    let mut request = b"GET /metrics HTTP/1.1\r\n".to_vec();
    request.resize(100_000, b'x');
    let said = say(&request).await;
    assert!(said.starts_with("HTTP/1.1 431 "), "{said}");
}

fn socket() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::TempDir::new().unwrap();
    let path = dir.path().join("metrics.sock");
    (dir, path)
}

#[tokio::test(start_paused = true)]
async fn clients_that_say_nothing_keep_nobody_out_for_long() {
    let (_dir, path) = socket();
    let local = tokio::task::LocalSet::new();
    let scraped = local.run_until(async {
        let listener = bind_unix(&path).unwrap();
        tokio::task::spawn_local(accept(Listener::Unix(listener), Rc::new(One)));
        let mut silent = Vec::new();
        for _ in 0..AT_ONCE * 2 {
            silent.push(tokio::net::UnixStream::connect(&path).await.unwrap());
        }
        let mut client = tokio::net::UnixStream::connect(&path).await.unwrap();
        client
            .write_all(b"GET /metrics HTTP/1.1\r\n\r\n")
            .await
            .unwrap();
        let mut said = String::new();
        client.read_to_string(&mut said).await.unwrap();
        said
    });
    assert!(scraped.await.ends_with("one 1\n"));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_nothing_is_left_alone_in_time() {
    let (here, there): (DuplexStream, _) = duplex(64);
    let mut here = here;
    here.write_all(b"GET /metrics HTTP/1.1\r\n\r\n")
        .await
        .unwrap();
    let left = tokio::time::timeout(PATIENCE, answer(there, &One)).await;
    assert!(left.is_err(), "it does not wait for ever");
}

#[test]
fn only_this_machine_can_be_listened_to() {
    let tcp = |text: &str| Some(Listen::Tcp(text.parse().unwrap()));
    assert_eq!(Listen::parse("127.0.0.1:9575"), tcp("127.0.0.1:9575"));
    assert_eq!(Listen::parse("[::1]:9575"), tcp("[::1]:9575"));
    let unix = Some(Listen::Unix("/run/x".into()));
    assert_eq!(Listen::parse("/run/x"), unix);
    for text in [
        "0.0.0.0:9575",
        "[::]:1",
        "10.0.0.1:1",
        "127.0.0.1",
        "localhost:1",
        "x",
        "",
    ] {
        assert_eq!(Listen::parse(text), None, "{text}");
    }
}

#[tokio::test]
async fn a_socket_that_was_left_behind_is_replaced_and_a_file_is_not() {
    let (_dir, path) = socket();
    drop(bind_unix(&path).unwrap());
    assert!(path.exists());
    let served = bind_unix(&path).unwrap();
    assert!(bind_unix(&path).is_err(), "another one is served");
    drop(served);
    fs::remove_file(&path).unwrap();
    fs::write(&path, "precious").unwrap();
    assert!(bind_unix(&path).is_err());
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
}
