//! An invite, from the administrator's request to the new member (profile 5.4).

use std::rc::Rc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::Server;
use super::family::{Applicant, Invite, Visitor};
use crate::daemon::addresses;
use crate::daemon::admin::describe;
use crate::daemon::control::Conversation;
use crate::daemon::control::message::{ControlError, MemberInfo, Progress, Question};
use crate::daemon::state::{Invitation, Member, StateError};
use crate::daemon::system::{SystemEntropy, wall_secs};
use crate::kernel::clock;
use crate::session::enrol::EnrolResponse;
use crate::session::psk::Token;
use crate::wire::error::ErrorMap;
use crate::wire::status::sub;

/// A token lives no longer (profile 5.4).
const LONGEST: u32 = 10;
/// A token survives two failed attempts (profile 5.4).
const ATTEMPTS: u32 = 3;

/// What the administrator wants.
pub(super) struct Wanted {
    pub(super) roles: Vec<String>,
    pub(super) addresses: Vec<String>,
    pub(super) minutes: u32,
    pub(super) admit: bool,
}

impl Server {
    /// Makes a token and waits for the node that comes with it.
    pub(super) async fn open_invite(
        &self,
        wanted: Wanted,
        asker: &Conversation,
    ) -> Result<MemberInfo, ControlError> {
        self.state.root()?;
        if wanted.minutes == 0 || wanted.minutes > LONGEST {
            return Err(ControlError::usage(format!(
                "an invite is valid for 1 to {LONGEST} minutes, not {}",
                wanted.minutes
            )));
        }
        let (visitors, mut arrivals) = mpsc::unbounded_channel();
        let key_id = self.publish(&wanted, asker, visitors)?;
        let result = tokio::select! {
            result = self.receive(&wanted, asker, &mut arrivals) => result,
            () = asker.gone() => Err(ControlError::failed("the invite was withdrawn")),
            () = tokio::time::sleep(Duration::from_secs(60 * u64::from(wanted.minutes))) => {
                Err(ControlError::failed("nobody joined in time; the token is worthless now")
                    .mend("myclerk invite"))
            }
        };
        self.psks.borrow_mut().remove(key_id);
        self.invites
            .borrow_mut()
            .retain(|invite| invite.key_id != key_id);
        result
    }

    fn publish(
        &self,
        wanted: &Wanted,
        asker: &Conversation,
        visitors: mpsc::UnboundedSender<Visitor>,
    ) -> Result<u32, ControlError> {
        let token = Token::generate(&mut SystemEntropy);
        let identity = self.state.identity()?;
        let family = identity.family.id();
        let key_id = self
            .psks
            .borrow_mut()
            .add_token(clock::mono(), &token, family)
            .map_err(|error| ControlError::failed(error.to_string()).mend("myclerk invite"))?;
        self.invites
            .borrow_mut()
            .push(Rc::new(Invite { key_id, visitors }));
        let addresses = if wanted.addresses.is_empty() {
            addresses::reachable(&self.listen)
        } else {
            wanted.addresses.clone()
        };
        let expires = wall_secs().saturating_add(60 * u64::from(wanted.minutes));
        let invitation = Invitation {
            token,
            root: identity.family.root,
            hub: identity.key.node_id(),
            addresses: addresses.clone(),
            expires: u32::try_from(expires).unwrap_or(u32::MAX),
        };
        let token = invitation.to_text().to_string();
        asker.progress(Progress::Invited {
            token,
            addresses,
            expires,
        });
        Ok(key_id)
    }

    async fn receive(
        &self,
        wanted: &Wanted,
        asker: &Conversation,
        arrivals: &mut mpsc::UnboundedReceiver<Visitor>,
    ) -> Result<MemberInfo, ControlError> {
        let mut left = ATTEMPTS;
        loop {
            match arrivals.recv().await {
                Some(Visitor::Applicant(applicant)) => {
                    return self.decide(wanted, asker, applicant).await;
                }
                Some(Visitor::Failed { from }) => {
                    left = left.saturating_sub(1);
                    if let Ok(from) = from.parse() {
                        asker.progress(Progress::Attempt { from, left });
                    }
                    if left == 0 {
                        return Err(ControlError::failed(
                            "three attempts with the token failed; it is worthless now",
                        )
                        .mend("myclerk invite"));
                    }
                }
                None => return Err(ControlError::failed("the invite was withdrawn")),
            }
        }
    }

    async fn decide(
        &self,
        wanted: &Wanted,
        asker: &Conversation,
        mut applicant: Applicant,
    ) -> Result<MemberInfo, ControlError> {
        let question = Question::Admit {
            name: applicant.name.clone(),
            node: applicant.node.to_string(),
            from: applicant.from.clone(),
            roles: wanted.roles.clone(),
        };
        let message = format!("{} left before it was admitted", applicant.name);
        let left = || ControlError::failed(message.clone()).mend("myclerk invite");
        let admitted = wanted.admit
            || tokio::select! {
                answer = asker.ask(question) => answer == Some(true),
                () = applicant.verdict.closed() => return Err(left()),
            };
        let declined = |msg: &str| Err(ErrorMap::new(sub::ENROL_ONLY).with_msg(msg));
        if !admitted {
            let _ = applicant
                .verdict
                .send(declined("its administrator said no"));
            return Err(ControlError::refused(format!(
                "{} was not admitted",
                applicant.name
            )));
        }
        // Nobody would be there to take the certificate.
        if applicant.verdict.is_closed() {
            return Err(left());
        }
        match self.certify(&applicant, &wanted.roles) {
            Ok((member, response)) => {
                tracing::info!(node = %member.node, name = member.name, "node admitted");
                // A node that leaves only now is a member all the same and can be revoked.
                let _ = applicant.verdict.send(Ok(response));
                Ok(describe(&member, self.node.borrow().key.node_id()))
            }
            Err(error) => {
                let _ = applicant.verdict.send(declined(&error.to_string()));
                Err(error.into())
            }
        }
    }

    fn certify(
        &self,
        applicant: &Applicant,
        roles: &[String],
    ) -> Result<(Member, EnrolResponse), StateError> {
        let state = self.state.lock()?;
        let root = state.identity()?.family.root;
        let (key, name) = (&applicant.key, &applicant.name);
        let issued = state.certify(key, name, roles, &mut SystemEntropy, self.present())?;
        let psks = state.family_psks()?;
        let psk = psks
            .last()
            .ok_or_else(|| StateError::Rule("the family has no pre-shared key".to_owned()))?;
        let list = state.revocations(&root)?;
        let response = EnrolResponse {
            cert: issued.chain.as_bytes().to_vec(),
            root,
            psk: *psk.psk.to_bytes(),
            psk_epoch: psk.epoch,
            crl: list
                .map(|list| list.as_bytes().to_vec())
                .unwrap_or_default(),
        };
        Ok((issued.member, response))
    }
}
