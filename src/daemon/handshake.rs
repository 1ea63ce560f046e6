//! A handshake over a path: from a fresh connection to an established session.

use core::ops::ControlFlow;
use std::time::Duration;

use crate::daemon::system::{SystemEntropy, wall_clock};
use crate::kernel::clock;
use crate::session::psk::PskLookup;
use crate::session::{
    CloseReason, Dial, HandshakeError, HandshakeInfo, HeldTicket, Initiator, LocalNode, Offered,
    Policy, Progress, Responder, Resumer, Session, TicketTable,
};
use crate::transport::{Framed, MessageWriter, Path, TransportError};
use crate::wire::flags::Tier;
use crate::wire::time::Mono;

/// An established session on its path.
pub struct Greeted {
    /// The session.
    pub session: Session,
    /// Its path.
    pub path: Path,
    /// What else the handshake said.
    pub info: HandshakeInfo,
}

/// Why no session came about.
#[derive(Debug, thiserror::Error)]
pub enum GreetError {
    /// The other side closed the connection without a word: it is not what was dialled, or it does
    /// not accept the key that was used.
    #[error("the other side closed the connection without a word")]
    Silence,
    /// The path broke.
    #[error(transparent)]
    Path(#[from] TransportError),
    /// The handshake failed.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    /// The other side is authenticated, was refused, and was told so.
    #[error("refused: {0}")]
    Refused(HandshakeError),
}

impl GreetError {
    /// The reason that the other side gave in clear, if it gave one; it proves nothing.
    pub const fn hint(&self) -> Option<&CloseReason> {
        match self {
            Self::Handshake(HandshakeError::Refused(reason)) => Some(reason),
            Self::Handshake(_) | Self::Silence | Self::Path(_) | Self::Refused(_) => None,
        }
    }
}

/// The policy of every handshake on an ordered path. Members of the own family mix its PSK, so that
/// strangers learn nothing (profile 6.5).
pub fn policy() -> Policy {
    Policy {
        floor: Tier::T3,
        psk_required: true,
        psk_first: true,
        ordered: true,
        wall: wall_clock(),
    }
}

/// Opens a session as the side that dialled.
///
/// # Errors
/// [`GreetError`]; the path is closed then.
pub async fn dial(node: &LocalNode, dial: Dial, mut path: Path) -> Result<Greeted, GreetError> {
    let now = clock::mono();
    let (mut initiator, first) = Initiator::start(node, dial, policy(), now, &mut SystemEntropy)?;
    send(&mut *path.writer, &first).await?;
    loop {
        let message = receive(&mut path, initiator.next_timeout()).await?;
        let progress = initiator.handle(node, clock::mono(), &mut SystemEntropy, &message)?;
        match follow(path, progress).await? {
            ControlFlow::Continue(same) => path = same,
            ControlFlow::Break(greeted) => return Ok(greeted),
        }
    }
}

/// Goes on with an earlier session as the side that dialled (profile 14.5). Whatever comes of it, the
/// ticket is used up.
///
/// # Errors
/// [`GreetError`]; the path is closed then, and a full handshake is what remains.
pub async fn resume(
    node: &LocalNode,
    ticket: HeldTicket,
    mut path: Path,
) -> Result<Greeted, GreetError> {
    let now = clock::mono();
    let (mut resumer, first) = Resumer::start(node, ticket, policy(), now, &mut SystemEntropy)?;
    send(&mut *path.writer, &[first]).await?;
    loop {
        let message = receive(&mut path, resumer.next_timeout()).await?;
        let progress = resumer.handle(node, clock::mono(), &message)?;
        match follow(path, progress).await? {
            ControlFlow::Continue(same) => path = same,
            ControlFlow::Break(greeted) => return Ok(greeted),
        }
    }
}

/// What a responder looks up while it answers; borrowed anew for each message.
pub trait Answering {
    /// Lets `step` work with the node, its keys and its tickets.
    fn with<R>(&self, step: impl FnOnce(&LocalNode, &dyn PskLookup, &mut TicketTable) -> R) -> R;
}

/// Opens a session as the side that was dialled.
///
/// # Errors
/// [`GreetError`]; the path is closed then, and a stranger was told nothing.
pub async fn answer(node: &impl Answering, mut path: Path) -> Result<Greeted, GreetError> {
    let mut responder = Responder::new(policy(), clock::mono());
    loop {
        let message = receive(&mut path, responder.deadline()).await?;
        let progress = node.with(|node, psks, tickets| {
            let mut offered = Offered {
                psks,
                tickets: Some(tickets),
            };
            responder.handle(
                node,
                &mut offered,
                clock::mono(),
                &mut SystemEntropy,
                &message,
            )
        });
        match progress {
            Ok(progress) => match follow(path, progress).await? {
                ControlFlow::Continue(same) => path = same,
                ControlFlow::Break(greeted) => return Ok(greeted),
            },
            Err(error) => {
                return Err(match error.hint() {
                    Some(hint) => turn_away(path, &hint, error.into()).await,
                    None => error.into(),
                });
            }
        }
    }
}

/// Sends what a step of a handshake has to say; the session, once there is one.
async fn follow(
    mut path: Path,
    progress: Progress,
) -> Result<ControlFlow<Greeted, Path>, GreetError> {
    match progress {
        Progress::Wait => {}
        Progress::Send(messages) => send(&mut *path.writer, &messages).await?,
        Progress::Established(established) => {
            send(&mut *path.writer, &established.send).await?;
            let (session, info) = (established.session, established.info);
            return Ok(ControlFlow::Break(Greeted {
                session,
                path,
                info,
            }));
        }
        Progress::Refused { close, reason } => {
            return Err(turn_away(path, &close, GreetError::Refused(reason)).await);
        }
    }
    Ok(ControlFlow::Continue(path))
}

/// How long a refused peer has to read why before the connection is cut.
const LAST_WORD: Duration = Duration::from_secs(1);

/// Sends one last message and closes the path so that it arrives.
async fn turn_away(mut path: Path, message: &[u8], error: GreetError) -> GreetError {
    let last = async {
        send(&mut *path.writer, &[message]).await?;
        path.writer.close().await?;
        // Closing with unread bytes would reset the connection under the last message.
        while path.reader.recv().await?.is_some() {}
        Ok::<(), TransportError>(())
    };
    // The peer is refused whether it listens or not.
    let _ = tokio::time::timeout(LAST_WORD, last).await;
    error
}

async fn receive(path: &mut Path, deadline: Mono) -> Result<Vec<u8>, GreetError> {
    let left = deadline.since(clock::mono());
    match tokio::time::timeout(left, path.reader.recv()).await {
        Ok(message) => message?.ok_or(GreetError::Silence),
        Err(_) => Err(HandshakeError::Timeout.into()),
    }
}

async fn send(
    writer: &mut dyn MessageWriter,
    messages: &[impl AsRef<[u8]>],
) -> Result<(), TransportError> {
    for message in messages {
        let framed = Framed::copy_of(message.as_ref()).ok_or(TransportError::Empty)?;
        writer.send(framed).await.0?;
    }
    Ok(())
}
