//! The wire by hand: a node that speaks the protocol and may break its rules.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use myclerk::bus;
use myclerk::daemon::handshake::policy;
use myclerk::daemon::node;
use myclerk::daemon::state::{Invitation, StateDir};
use myclerk::daemon::system::SystemEntropy;
use myclerk::kernel::clock;
use myclerk::link::LinkEvent;
use myclerk::link::connection::Connection;
use myclerk::session::certificate::CertificateChain;
use myclerk::session::psk::{Psk, PskUse};
use myclerk::session::{Dial, Initiator, LocalNode, Progress, RecordBuf};
use myclerk::wire::flags::Tier;
use myclerk::wire::frame::{Body, FrameHead};
use myclerk::wire::opcode::Opcode;
use socket2::{Domain, Socket, Type};

/// Before a read counts as "nothing comes".
const PATIENCE: Duration = Duration::from_secs(15);

/// Connects from an address of its own: what another source does must not get in its way.
pub(crate) fn dial_from(source: Ipv4Addr, to: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let source = SocketAddr::new(IpAddr::V4(source), 0);
    socket.bind(&source.into()).unwrap();
    socket.connect(&to.into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

pub(crate) fn write_message(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    stream.write_all(&[&length[..], message].concat())
}

/// One message; an error of kind `UnexpectedEof` at the end.
pub(crate) fn read_message(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let mut message = vec![0; usize::try_from(u32::from_be_bytes(length)).unwrap()];
    stream.read_exact(&mut message)?;
    Ok(message)
}

/// Everything that still comes until the other side ends the connection; `None` when it does not.
pub(crate) fn rest(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Ok(_) => Some(bytes),
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Some(bytes),
        Err(_) => None,
    }
}

/// Who dials, and with what.
pub(crate) struct Who {
    pub(crate) node: LocalNode,
    pub(crate) dial: Dial,
}

impl Who {
    /// The member whose state this is.
    pub(crate) fn member(state: &Path) -> Self {
        let loaded = node::load(&StateDir::new(state)).unwrap();
        let psk = loaded.psks.family().map(|(psk, epoch)| {
            let current = true;
            (psk.clone(), PskUse::Family { epoch, current })
        });
        let (node, expected, tier) = (loaded.node, None, Tier::T4);
        Self {
            node,
            dial: Dial {
                expected,
                psk,
                tier,
            },
        }
    }

    /// Somebody with a token and no certificate.
    pub(crate) fn guest(state: &Path, invitation: &Invitation) -> Self {
        let psk = Psk::from_token(&invitation.token, invitation.family());
        let mut who = Self::member(state);
        who.dial.expected = Some(invitation.hub);
        who.node.chain = CertificateChain::empty();
        who.dial.psk = Some((psk, PskUse::Enrol));
        who
    }
}

/// A session over TCP, driven by the test.
pub(crate) struct Session {
    pub(crate) stream: TcpStream,
    pub(crate) connection: Connection,
    /// What the handshake sent, to be sent again by a thief.
    pub(crate) sent: Vec<Vec<u8>>,
}

impl Session {
    pub(crate) fn open(who: Who, to: SocketAddr, source: Ipv4Addr) -> io::Result<Self> {
        let mut stream = dial_from(source, to);
        let Who { node, dial } = who;
        let now = clock::mono();
        let (mut initiator, first) =
            Initiator::start(&node, dial, policy(), now, &mut SystemEntropy).unwrap();
        let mut sent = Vec::new();
        let mut outgoing: Vec<Vec<u8>> = first.to_vec();
        loop {
            for message in outgoing.drain(..) {
                write_message(&mut stream, &message)?;
                sent.push(message);
            }
            let message = read_message(&mut stream)?;
            let now = clock::mono();
            let progress = initiator
                .handle(&node, now, &mut SystemEntropy, &message)
                .map_err(io::Error::other)?;
            match progress {
                Progress::Wait => {}
                Progress::Send(messages) => {
                    outgoing = messages;
                }
                Progress::Established(established) => {
                    for message in &established.send {
                        write_message(&mut stream, message)?;
                        sent.push(message.clone());
                    }
                    let session = established.session;
                    let connection =
                        Connection::new(clock::mono(), session, true, false, bus::declared_reply);
                    return Ok(Self {
                        stream,
                        connection,
                        sent,
                    });
                }
                Progress::Refused { reason, .. } => return Err(io::Error::other(reason)),
            }
        }
    }

    /// Sends what the link has to say.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        let mut buf = RecordBuf::with_capacity(65536);
        let now = clock::mono();
        while self
            .connection
            .poll_transmit(now, &mut SystemEntropy, &mut buf)
        {
            self.stream.write_all(buf.framed())?;
        }
        Ok(())
    }

    /// Seals frames that the link would not send.
    pub(crate) fn send_raw(&mut self, tier: Tier, plaintext: &[u8]) -> io::Result<()> {
        let message = self.sealed(tier, plaintext)?;
        write_message(&mut self.stream, &message)
    }

    /// Frames as a record of this moment, to be sent some time.
    pub(crate) fn sealed(&mut self, tier: Tier, plaintext: &[u8]) -> io::Result<Vec<u8>> {
        let mut buf = RecordBuf::with_capacity(plaintext.len());
        buf.extend_from_slice(plaintext);
        let now = clock::mono();
        let session = self.connection.session();
        session
            .seal(now, tier, Opcode::Record, &mut buf)
            .map_err(io::Error::other)?;
        Ok(buf.message().to_vec())
    }

    /// The next thing that happens, or `None` when the session is over.
    pub(crate) fn next(&mut self) -> Option<LinkEvent> {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(event) = self.connection.poll_event() {
                return Some(event);
            }
            if self.flush().is_err() || self.connection.is_over() {
                return None;
            }
            assert!(Instant::now() < until, "nothing happens");
            let mut message = read_message(&mut self.stream).ok()?;
            self.connection
                .receive(clock::mono(), &mut SystemEntropy, &mut message);
        }
    }

    /// Waits for the end.
    pub(crate) fn end(&mut self) -> Option<String> {
        while self.next().is_some() {}
        self.connection.end().map(ToString::to_string)
    }
}

/// A request as a frame.
pub(crate) fn request(stream: u32, corr: u32, opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    frame(stream, Body::Request { opcode, corr }, payload)
}

pub(crate) fn frame(stream: u32, body: Body, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    FrameHead::new(stream, body).emit(payload, &mut out);
    out
}
