//! Becoming a member: the joining side of enrolment (profile 5.4).

use std::path::Path;

use super::state::Invitation;

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
    let _ = (state, request, step);
    Err(JoinError::Protocol(
        "enrolment is not part of this build".to_owned(),
    ))
}
