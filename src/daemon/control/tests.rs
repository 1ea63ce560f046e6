use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::rc::Rc;

use tempfile::TempDir;
use tokio::sync::mpsc;

use super::connect::AskError;
use super::listen::BindError;
use super::message::{MemberInfo, Question};
use super::*;

/// Answers members with nothing, revocations with a question, invites with waiting for the end.
struct Fake {
    events: mpsc::UnboundedSender<&'static str>,
}

impl ControlHandler for Fake {
    async fn handle(&self, request: Request, asker: &Conversation) -> Result<Reply, ControlError> {
        match request {
            Request::Members => {
                asker.step("one");
                asker.step("two");
                Ok(Reply::Members(Vec::new()))
            }
            Request::Revoke { node } => {
                let question = Question::Admit {
                    name: node,
                    node: String::new(),
                    from: String::new(),
                    roles: Vec::new(),
                };
                match asker.ask(question).await {
                    Some(true) => Ok(Reply::Members(vec![member()])),
                    Some(false) => Err(ControlError::refused("the answer was no").mend("say yes")),
                    None => {
                        let _ = self.events.send("no answer");
                        Err(ControlError::failed("nobody there"))
                    }
                }
            }
            Request::Invite { .. } => {
                asker.step("waiting");
                asker.gone().await;
                let _ = self.events.send("gone");
                Err(ControlError::failed("withdrawn"))
            }
            other => Err(ControlError::usage(format!("{other:?}"))),
        }
    }
}

fn member() -> MemberInfo {
    MemberInfo {
        id: "00".repeat(16),
        name: "shed".to_owned(),
        roles: vec!["user".to_owned()],
        joined: 1,
        expires: 2,
        revoked: None,
        this: false,
        online: Some(true),
    }
}

/// Runs the test body beside a listening daemon on one thread.
fn with_daemon<F: Future>(body: impl FnOnce(TempDir, mpsc::UnboundedReceiver<&'static str>) -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let dir = TempDir::new().unwrap();
        let listener = ControlListener::bind(dir.path(), Side::Server).unwrap();
        let (events, seen) = mpsc::unbounded_channel();
        tokio::task::spawn_local(async move { listener.serve(Rc::new(Fake { events })).await });
        body(dir, seen).await;
    });
}

async fn ask(dir: &Path, request: &Request) -> Connection {
    Connection::open(dir, Side::Server, request).await.unwrap()
}

fn invite() -> Request {
    Request::Invite {
        roles: Vec::new(),
        addresses: Vec::new(),
        minutes: 10,
        admit: false,
    }
}

fn revoke() -> Request {
    Request::Revoke {
        node: "shed".to_owned(),
    }
}

#[test]
fn progress_comes_in_order_and_before_the_reply() {
    with_daemon(async |dir, _| {
        let mut connection = ask(dir.path(), &Request::Members).await;
        for step in ["one", "two"] {
            let Incoming::Progress(message::Progress::Step(text)) =
                connection.next().await.unwrap()
            else {
                panic!("expected a step");
            };
            assert_eq!(text, step);
        }
        let Incoming::Done(Ok(Reply::Members(members))) = connection.next().await.unwrap() else {
            panic!("expected the reply");
        };
        assert!(members.is_empty());
        assert!(matches!(
            connection.next().await,
            Err(AskError::Ended(Side::Server))
        ));
    });
}

#[test]
fn a_question_waits_for_its_answer() {
    with_daemon(async |dir, _| {
        for yes in [true, false] {
            let mut connection = ask(dir.path(), &revoke()).await;
            assert!(matches!(
                connection.next().await.unwrap(),
                Incoming::Question(_)
            ));
            connection.answer(yes).await.unwrap();
            let Incoming::Done(result) = connection.next().await.unwrap() else {
                panic!("expected the end");
            };
            let refused = ControlError::refused("the answer was no").mend("say yes");
            assert_eq!(
                result,
                if yes {
                    Ok(Reply::Members(vec![member()]))
                } else {
                    Err(refused)
                }
            );
        }
    });
}

#[test]
fn a_handler_learns_that_the_asker_is_gone() {
    with_daemon(async |dir, mut seen| {
        let mut connection = ask(dir.path(), &invite()).await;
        connection.next().await.unwrap();
        drop(connection);
        assert_eq!(seen.recv().await, Some("gone"));

        let mut connection = ask(dir.path(), &revoke()).await;
        connection.next().await.unwrap();
        drop(connection);
        assert_eq!(seen.recv().await, Some("no answer"));
    });
}

/// What the daemon says to a raw first line.
async fn raw(dir: &Path, line: Vec<u8>) -> String {
    let path = Side::Server.socket(dir);
    tokio::task::spawn_blocking(move || {
        let mut stream = UnixStream::connect(path).unwrap();
        stream.write_all(&line).unwrap();
        let mut answer = String::new();
        let _ = BufReader::new(stream).read_line(&mut answer);
        answer
    })
    .await
    .unwrap()
}

#[test]
fn another_version_and_unknown_requests_get_an_explanation() {
    with_daemon(async |dir, _| {
        let lines = [
            &b"{\"version\":2,\"request\":{\"do\":\"status\"}}\n"[..],
            b"{\"version\":1,\"request\":{\"do\":\"dance\"}}\n",
            b"{\"version\":1,\"request\":{\"do\":\"revoke\"}}\n",
            b"hello\n",
        ];
        for line in lines {
            let answer = raw(dir.path(), line.to_vec()).await;
            assert!(answer.contains("\"kind\":\"usage\""), "{answer}");
            assert!(answer.contains("restart the daemon"), "{answer}");
        }
    });
}

#[test]
fn an_endless_first_line_is_not_collected() {
    with_daemon(async |dir, _| {
        assert_eq!(raw(dir.path(), vec![b'a'; 65 * 1024]).await, "");
        assert!(raw(dir.path(), b"{}\n".to_vec()).await.contains("usage"));
    });
}

#[test]
fn one_daemon_of_a_side_runs_on_a_run_directory() {
    with_daemon(async |dir, _| {
        let second = ControlListener::bind(dir.path(), Side::Server);
        assert!(matches!(
            second,
            Err(BindError::Running {
                side: Side::Server,
                ..
            })
        ));
        assert!(ControlListener::bind(dir.path(), Side::Client).is_ok());
    });
}

#[test]
fn a_socket_left_by_a_dead_daemon_is_replaced() {
    with_daemon(async |_, _| {
        let dir = TempDir::new().unwrap();
        let path = Side::Server.socket(dir.path());
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let open = Connection::open(dir.path(), Side::Server, &Request::Status).await;
        assert!(matches!(
            open,
            Err(AskError::NotRunning {
                side: Side::Server,
                ..
            })
        ));
        let listener = ControlListener::bind(dir.path(), Side::Server).unwrap();
        assert!(
            Connection::open(dir.path(), Side::Server, &Request::Status)
                .await
                .is_ok()
        );
        drop(listener);
        assert!(!path.exists());
    });
}

#[test]
fn only_owner_and_group_can_open_the_socket() {
    use std::os::unix::fs::PermissionsExt;
    with_daemon(async |dir, _| {
        let mode = std::fs::metadata(Side::Server.socket(dir.path()))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o660);
    });
}
