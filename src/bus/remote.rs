//! A device of the owner that is used by single operations, each of them whole: nothing of it is held
//! open at the owner, so what happens to the session is watched here.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use nix::errno::Errno;
use tokio::sync::Notify;
use tokio::time::sleep;

use super::outage::again;
use super::{AskError, AttachError, Ended, Opener, Wish};
use crate::wire::msgpack::{self, Value};
use crate::wire::opcode::Opcode;
use crate::wire::status::{Status, sub};

/// How often the owner is asked whether the device is still there.
const LOOK: Duration = Duration::from_secs(10);
/// How long the owner has to answer that.
const ANSWER: Duration = Duration::from_secs(10);

/// A device of the owner.
pub struct Remote {
    opener: Rc<dyn Opener>,
    device: String,
    grace: Duration,
    live: Cell<bool>,
    end: RefCell<Option<Ended>>,
    /// An answer said that it is gone: that has to be looked into.
    stirred: Notify,
    /// It is to be given back.
    given_up: Notify,
}

impl Remote {
    /// The device of a wish.
    pub fn new(opener: Rc<dyn Opener>, wish: &Wish) -> Rc<Self> {
        Rc::new(Self {
            opener,
            device: wish.device.clone(),
            grace: wish.grace,
            live: Cell::new(true),
            end: RefCell::default(),
            stirred: Notify::new(),
            given_up: Notify::new(),
        })
    }

    /// Its id at the owner.
    pub fn device(&self) -> &str {
        &self.device
    }

    /// There is a session with its owner.
    pub fn is_live(&self) -> bool {
        self.live.get()
    }

    /// Performs one operation.
    ///
    /// # Errors
    /// What a program that uses the device is told: `ETIMEDOUT` while there is no session, `ENODEV`
    /// once it will not come back, and what the owner's kernel said.
    pub async fn call(
        &self,
        opcode: Opcode,
        payload: Vec<u8>,
        timeout: Duration,
    ) -> Result<Vec<u8>, Errno> {
        if self.end.borrow().is_some() {
            return Err(Errno::ENODEV);
        }
        if !self.live.get() {
            return Err(Errno::ETIMEDOUT);
        }
        let answer = self.opener.call(opcode, payload, timeout).await;
        answer.map_err(|error| {
            let errno = errno(&error);
            if errno == Errno::ENODEV {
                self.stirred.notify_one();
            }
            errno
        })
    }

    /// Starts giving it back.
    pub fn give_up(&self) {
        self.ends(Ended::Detached);
        self.given_up.notify_one();
    }

    /// Watches over it until it ends, for whatever reason.
    pub async fn watch(&self) -> Ended {
        loop {
            if let Some(end) = self.end.borrow().clone() {
                return end;
            }
            if self.live.get() {
                tokio::select! {
                    () = self.given_up.notified() => {}
                    () = self.stirred.notified() => {}
                    () = self.opener.lost() => self.live.set(false),
                    () = sleep(LOOK) => {}
                }
            }
            if self.end.borrow().is_some() {
                continue;
            }
            tokio::select! {
                () = self.given_up.notified() => {}
                result = self.look() => match result {
                    Ok(()) => self.live.set(true),
                    Err(end) => self.ends(end),
                },
            }
        }
    }

    /// Asks the owner for it; without a session, for as long as the grace time.
    async fn look(&self) -> Result<(), Ended> {
        if self.live.get() {
            match look(Rc::clone(&self.opener), self.device.clone()).await {
                // No room on a busy session, or an owner that could not look: later.
                Ok(()) | Err(AttachError::Ask(AskError::NotSent(_))) => return Ok(()),
                Err(AttachError::Ask(AskError::Refused { status, error })) => {
                    return if is_final(status, &error.sub) {
                        Err(Ended::Owner(status))
                    } else {
                        Ok(())
                    };
                }
                // The session is lost.
                Err(_) => self.live.set(false),
            }
        }
        let device = self.device.clone();
        let look = move |opener| look(opener, device.clone());
        again(Rc::clone(&self.opener), self.grace, look).await
    }

    fn ends(&self, end: Ended) {
        self.end.borrow_mut().get_or_insert(end);
    }
}

/// Asks for what everybody may know who may use the device at all.
async fn look(opener: Rc<dyn Opener>, device: String) -> Result<(), AttachError> {
    let request = Value::Map(vec![("dev".into(), Value::Str(device))]);
    let payload =
        msgpack::encode(&request).map_err(|error| AttachError::Answer(error.to_string()))?;
    opener.call(Opcode::DeviceInfo, payload, ANSWER).await?;
    Ok(())
}

/// Whether there will be no device any more by asking again.
fn is_final(status: Status, refinement: &str) -> bool {
    match status {
        Status::ServiceUnavailable => refinement == sub::DEVICE_GONE,
        Status::NotFound | Status::Unauthorized | Status::Forbidden | Status::BadRequest => true,
        Status::Ok
        | Status::InvalidSession
        | Status::InternalError
        | Status::Timeout
        | Status::Other(_) => false,
    }
}

/// What a program is told when the owner did not do it.
pub fn errno(error: &AskError) -> Errno {
    let (status, error) = match error {
        AskError::Refused { status, error } => (*status, error),
        AskError::Ended(_) => return Errno::ETIMEDOUT,
        AskError::NotSent(_) => return Errno::EAGAIN,
    };
    // Of either sign.
    let detail = error.detail.as_ref().and_then(Value::as_i64);
    let detail = detail.and_then(|detail| i32::try_from(detail.unsigned_abs()).ok());
    if error.sub == sub::DEVICE_IO
        && let Some(errno) = detail.map(Errno::from_raw)
        && errno != Errno::UnknownErrno
    {
        return errno;
    }
    match (status, error.sub.as_ref()) {
        (Status::BadRequest, sub::UNSUPPORTED | sub::UNKNOWN_OP) => Errno::EOPNOTSUPP,
        (Status::BadRequest, _) => Errno::EINVAL,
        (Status::Unauthorized | Status::Forbidden, _) => Errno::EACCES,
        (Status::NotFound, _) | (Status::ServiceUnavailable, sub::DEVICE_GONE) => Errno::ENODEV,
        (Status::ServiceUnavailable, _) => Errno::EBUSY,
        (Status::Timeout, _) => Errno::ETIMEDOUT,
        (Status::Ok | Status::InvalidSession | Status::InternalError | Status::Other(_), _) => {
            Errno::EIO
        }
    }
}

#[cfg(test)]
mod tests {
    use core::future::Future;

    use tokio::time::Instant;

    use super::super::fake::FakeSession;
    use super::*;
    use crate::bus::Refused;

    const SOON: Duration = Duration::from_secs(1);

    /// A device whose owner answers so, with 30 s of grace.
    fn remote(
        answer: impl Fn(Opcode) -> Result<Vec<u8>, Refused> + 'static,
    ) -> (Rc<FakeSession>, Rc<Remote>) {
        let session = FakeSession::new(|_| (), move |opcode, _| answer(opcode));
        let wish = Wish {
            device: "i2c:one".to_owned(),
            grace: Duration::from_secs(30),
            ..Wish::default()
        };
        let remote = Remote::new(Rc::<FakeSession>::clone(&session), &wish);
        (session, remote)
    }

    /// Lets it be watched while something is done.
    async fn watched<T>(remote: &Remote, work: impl Future<Output = T>) -> T {
        tokio::select! {
            biased;
            end = remote.watch() => panic!("it ended: {end}"),
            done = work => done,
        }
    }

    async fn ask(remote: &Remote) -> Result<Vec<u8>, Errno> {
        remote.call(Opcode::I2cTransfer, Vec::new(), SOON).await
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_owners_kernel_says_is_what_the_program_is_told() {
        for (refused, told) in [
            (Refused::io("no answer", Errno::ENXIO), Errno::ENXIO),
            (Refused::unsupported("10 bits"), Errno::EOPNOTSUPP),
            (Refused::bad("too long"), Errno::EINVAL),
            (Refused::gone(), Errno::ENODEV),
            (Refused::cancelled(), Errno::ETIMEDOUT),
        ] {
            let (_session, remote) = remote(move |_| Err(refused.clone()));
            assert_eq!(ask(&remote).await, Err(told));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn during_an_outage_operations_time_out_at_once_and_then_go_on() {
        let (session, remote) = remote(|_| Ok(vec![7]));
        session.cut();
        watched(&remote, tokio::time::sleep(SOON)).await;
        assert!(!remote.is_live());
        let began = Instant::now();
        assert_eq!(ask(&remote).await, Err(Errno::ETIMEDOUT));
        assert_eq!(began.elapsed(), Duration::ZERO);
        session.mend();
        watched(&remote, tokio::time::sleep(SOON)).await;
        assert_eq!(ask(&remote).await, Ok(vec![7]));
    }

    #[tokio::test(start_paused = true)]
    async fn after_the_grace_time_there_is_no_device() {
        let (session, remote) = remote(|_| Ok(Vec::new()));
        session.cut();
        let began = Instant::now();
        assert_eq!(remote.watch().await, Ended::Session);
        assert_eq!(began.elapsed(), Duration::from_secs(30));
        assert_eq!(ask(&remote).await, Err(Errno::ENODEV));
    }

    #[tokio::test(start_paused = true)]
    async fn a_device_that_nobody_uses_is_missed_too() {
        let (_session, remote) = remote(|opcode| match opcode {
            Opcode::DeviceInfo => Err(Refused::new(Status::NotFound, sub::DEVICE, "gone")),
            _ => Ok(Vec::new()),
        });
        assert_eq!(remote.watch().await, Ended::Owner(Status::NotFound));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_it_is_gone_is_looked_into_at_once() {
        let (_session, remote) = remote(|_| Err(Refused::gone()));
        let began = Instant::now();
        assert_eq!(ask(&remote).await, Err(Errno::ENODEV));
        let end = remote.watch().await;
        assert_eq!(end, Ended::Owner(Status::ServiceUnavailable));
        assert_eq!(began.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn an_owner_that_cannot_look_for_a_moment_keeps_the_device() {
        let (_session, remote) = remote(|opcode| match opcode {
            Opcode::DeviceInfo => Err(Refused::io("a scan", Errno::EIO)),
            _ => Ok(vec![7]),
        });
        watched(&remote, tokio::time::sleep(LOOK * 3)).await;
        assert_eq!(ask(&remote).await, Ok(vec![7]));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_given_up_ends() {
        let (_session, remote) = remote(|_| Ok(Vec::new()));
        remote.give_up();
        assert_eq!(remote.watch().await, Ended::Detached);
    }
}
