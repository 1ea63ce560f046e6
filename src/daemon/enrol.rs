//! Becoming a member: the joining side of enrolment (profile 5.4).

use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use super::handshake::{self, GreetError, Greeted};
use super::node;
use super::peer::{self, CallError, Incoming, Peer, Service};
use super::state::{self, Family, FamilyPsk, Invitation, Membership, StateDir};
use super::system::{SystemEntropy, wall_clock};
use crate::bus;
use crate::kernel::clock;
use crate::link::connection::{Connection, End};
use crate::session::certificate::CertificateChain;
use crate::session::enrol::{EnrolRequest, EnrolResponse};
use crate::session::psk::{Psk, PskUse};
use crate::session::revocation::RevocationList;
use crate::session::trust::Trust;
use crate::session::{Dial, HandshakeError, LocalNode};
use crate::transport::tcp;
use crate::wire::error::ErrorMap;
use crate::wire::flags::Tier;
use crate::wire::msgpack;
use crate::wire::opcode::Opcode;
use crate::wire::status::{Status, sub};

/// What the person who runs `myclerk join` provides.
#[derive(Debug)]
pub struct JoinRequest {
    /// The token, as read from its text.
    pub invitation: Invitation,
    /// Addresses to try in this order, `HOST:PORT`; never empty.
    pub addresses: Vec<String>,
    /// The name this node asks for.
    pub name: String,
}

/// What happened while joining, for the person who waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JoinStep {
    /// Trying an address.
    Connecting(String),
    /// The hub has proven itself and the token; its administrator is being asked.
    AwaitingConfirmation {
        /// This node's id, to be compared with what the administrator sees.
        node: String,
    },
}

/// What joining brought; it is stored by then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// This node's id.
    pub node: String,
    /// The name in its certificate.
    pub name: String,
    /// The roles in its certificate.
    pub roles: Vec<String>,
    /// The family-id.
    pub family: String,
    /// The hub's node-id.
    pub hub: String,
    /// The hub's name.
    pub hub_name: String,
    /// The address it was reached at.
    pub address: String,
}

/// Why joining failed.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// No address could be connected to.
    #[error("cannot reach the hub")]
    Unreachable {
        /// Each address with what happened there.
        tried: Vec<(String, String)>,
    },
    /// Somebody answers there who is not the hub of the token.
    #[error("the machine at {address} is not the hub that made this token")]
    NotTheHub {
        /// Where.
        address: String,
    },
    /// The hub does not accept the token: wrong, used, withdrawn or expired. It does not say which
    /// to somebody it does not know.
    #[error("the hub does not accept this token")]
    Token,
    /// The hub's administrator said no, or nobody answered in time.
    #[error("the hub refused this machine: {0}")]
    Declined(String),
    /// Both clocks are synchronised and disagree.
    #[error("the clocks of this machine and of the hub differ by more than five minutes")]
    Clock,
    /// The hub answered something that is no answer.
    #[error("the hub answered something that makes no sense: {0}")]
    Protocol(String),
    /// The result could not be stored.
    #[error(transparent)]
    State(#[from] super::state::StateError),
}

/// Time for each address to accept a connection.
const DIAL: Duration = Duration::from_secs(5);
/// The administrator has as long as the token lives, and the answer some time to arrive.
const PATIENCE: Duration = Duration::from_secs(11 * 60);

/// Joins the family of the invitation and stores the membership in the state directory, whose
/// node key is made if there is none. Blocks; runs its own runtime. Ctrl-C is the caller's.
///
/// # Errors
/// [`JoinError`]; nothing but the node key is stored then.
pub fn join(
    state: &Path,
    request: &JoinRequest,
    step: &mut dyn FnMut(JoinStep),
) -> Result<Joined, JoinError> {
    let state = StateDir::new(state);
    state.create()?;
    let key = state.lock()?.ensure_node_key(&mut SystemEntropy)?;
    let mut trust = Trust::new(state.time_floor()?);
    trust.pin(request.invitation.root);
    let node = node::local(key, CertificateChain::empty(), trust);
    tokio_uring::start(enrol(&state, &node, request, step))
}

async fn enrol(
    state: &StateDir,
    node: &LocalNode,
    request: &JoinRequest,
    step: &mut dyn FnMut(JoinStep),
) -> Result<Joined, JoinError> {
    let (greeted, address) = reach(node, request, step).await?;
    let Greeted { session, path, .. } = greeted;
    let ordered = path.control.ordered();
    let connection = Connection::new(clock::mono(), session, ordered, false, bus::declared_reply);
    let peer = peer::start(connection, path, Rc::new(Nothing));
    step(JoinStep::AwaitingConfirmation {
        node: node.key.node_id().to_string(),
    });
    let asked = ask(&peer, &request.name).await;
    let result = asked.and_then(|response| {
        let hub_name = peer.identity().name().unwrap_or_default().to_owned();
        store((state, node), request, &response, hub_name, &address)
    });
    peer.close(Status::Ok, "");
    peer.closed().await;
    result
}

/// The first address at which the hub of the token answers.
async fn reach(
    node: &LocalNode,
    request: &JoinRequest,
    step: &mut dyn FnMut(JoinStep),
) -> Result<(Greeted, String), JoinError> {
    let Invitation { token, hub, .. } = &request.invitation;
    let psk = Psk::from_token(token, request.invitation.family());
    let mut tried = Vec::new();
    for address in &request.addresses {
        step(JoinStep::Connecting(address.clone()));
        let dial = Dial {
            expected: Some(*hub),
            psk: Some((psk.clone(), PskUse::Enrol)),
            tier: Tier::T4,
        };
        let greeted = match tcp::dial(address, DIAL).await {
            Ok(path) => handshake::dial(node, dial, path).await,
            Err(error) => Err(error.into()),
        };
        match greeted {
            Ok(greeted) => return Ok((greeted, address.clone())),
            Err(GreetError::Silence) => return Err(JoinError::Token),
            Err(GreetError::Handshake(HandshakeError::WrongPeer { .. })) => {
                return Err(JoinError::NotTheHub {
                    address: address.clone(),
                });
            }
            Err(error @ (GreetError::Path(_) | GreetError::Handshake(HandshakeError::Timeout))) => {
                tried.push((address.clone(), error.to_string()));
            }
            Err(error @ (GreetError::Handshake(_) | GreetError::Refused(_))) => {
                return Err(JoinError::Protocol(error.to_string()));
            }
        }
    }
    Err(JoinError::Unreachable { tried })
}

async fn ask(peer: &Peer, name: &str) -> Result<EnrolResponse, JoinError> {
    let nonsense = |error: &dyn std::fmt::Display| JoinError::Protocol(error.to_string());
    let request = EnrolRequest {
        name: name.to_owned(),
        roles: Vec::new(),
    };
    let payload = msgpack::encode(&request).map_err(|error| nonsense(&error))?;
    match peer.call(Opcode::Enrol, payload, PATIENCE).await {
        Ok(answer) => msgpack::decode(&answer).map_err(|error| nonsense(&error)),
        Err(CallError::Refused { status, error }) => Err(JoinError::Declined(
            error.msg.unwrap_or_else(|| status.to_string()),
        )),
        Err(CallError::Ended(end)) => Err(match &*end {
            End::ClosedByPeer(reason) if reason.sub.as_deref() == Some(sub::CLOCK_SKEW) => {
                JoinError::Clock
            }
            End::ClosedByPeer(reason) => JoinError::Declined(reason.to_string()),
            End::ClosedHere(_)
            | End::Violation(_)
            | End::Forged
            | End::Revoked
            | End::Silent
            | End::Exhausted
            | End::PathLost => nonsense(&end),
        }),
        Err(CallError::Link(error)) => Err(nonsense(&error)),
    }
}

fn store(
    (state, node): (&StateDir, &LocalNode),
    request: &JoinRequest,
    response: &EnrolResponse,
    hub_name: String,
    address: &str,
) -> Result<Joined, JoinError> {
    let nonsense = |what: &str| JoinError::Protocol(what.to_owned());
    let root = request.invitation.root;
    if response.root != root {
        return Err(nonsense("another family root than the token names"));
    }
    let chain = CertificateChain::decode(&response.cert)
        .map_err(|error| JoinError::Protocol(error.to_string()))?;
    let claims = chain
        .claims()
        .map_err(|error| JoinError::Protocol(error.to_string()))?;
    chain
        .verify(node.key.public(), &node.trust, wall_clock())
        .map_err(|error| JoinError::Protocol(error.to_string()))?;
    let revocations = RevocationList::verify(&response.crl, &root)
        .map_err(|error| JoinError::Protocol(error.to_string()))?;
    let hub = request.invitation.hub;
    let mut addresses = vec![address.to_owned()];
    addresses.extend(
        request
            .invitation
            .addresses
            .iter()
            .filter(|a| *a != address)
            .cloned(),
    );
    let membership = Membership {
        chain,
        family: Family {
            name: String::new(),
            root,
        },
        psk: FamilyPsk {
            epoch: response.psk_epoch,
            psk: Psk::from_bytes(response.psk),
            until: None,
        },
        revocations,
        hub: state::Peer {
            node: hub,
            name: hub_name.clone(),
            addresses,
        },
    };
    state
        .lock()?
        .store_membership(&membership, node.trust.present(wall_clock()))?;
    Ok(Joined {
        node: node.key.node_id().to_string(),
        name: claims.name.unwrap_or_default(),
        roles: claims.roles,
        family: root.family_id().to_string(),
        hub: hub.to_string(),
        hub_name,
        address: address.to_owned(),
    })
}

/// A joining node offers nothing and expects no events.
struct Nothing;

impl Service for Nothing {
    fn request(&self, peer: &Peer, request: Incoming) {
        let error = ErrorMap::new(sub::UNSUPPORTED);
        peer.refuse(request.stream, request.corr, Status::BadRequest, &error);
    }

    fn event(&self, _peer: &Peer, _opcode: Opcode, _payload: &[u8]) {}
}
