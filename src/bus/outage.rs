//! What a device that is local does while the session with its owner is lost.

use core::future::{Future, pending};
use core::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use super::{AskError, AttachError, Ended, Opener};
use crate::wire::status::Status;

/// How long a device stays on this machine without its owner, where nobody said otherwise.
pub const GRACE: Duration = Duration::from_secs(60);

/// Between two requests to an owner that has not let go of the lost session yet, or has not found its
/// hardware again.
const PAUSE: Duration = Duration::from_secs(1);

/// A device on its way back.
pub type Returning<T> = Pin<Box<dyn Future<Output = Result<T, Ended>>>>;

/// Waits for another session with the owner and opens the device again by `open`, for at most `grace`.
/// The owner may refuse for a while: it may not know yet that the first session is lost, and after a
/// restart it has to find its devices.
pub fn again<T, F>(
    opener: Rc<dyn Opener>,
    grace: Duration,
    mut open: impl FnMut(Rc<dyn Opener>) -> F + 'static,
) -> Returning<T>
where
    F: Future<Output = Result<T, AttachError>>,
{
    Box::pin(async move {
        let until = Instant::now() + grace;
        let mut end = Ended::Session;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || !opener.returned(left).await {
                return Err(end);
            }
            match timeout_at(until, open(Rc::clone(&opener))).await {
                Ok(Ok(opened)) => return Ok(opened),
                Ok(Err(error)) => end = lasting(&error)?,
                Err(_) => return Err(end),
            }
            sleep(PAUSE).await;
        }
    })
}

/// What comes of it; never, while nothing is on its way.
///
/// # Errors
/// Why the device does not come back.
pub async fn returned<T>(returning: &mut Option<Returning<T>>) -> Result<T, Ended> {
    match returning {
        Some(returning) => returning.await,
        None => pending().await,
    }
}

/// How it ends if the owner goes on answering so; an error where it surely will.
fn lasting(error: &AttachError) -> Result<Ended, Ended> {
    match error {
        AttachError::Ask(AskError::Ended(_) | AskError::NotSent(_)) => Ok(Ended::Session),
        AttachError::Ask(AskError::Refused { status, .. }) => match *status {
            Status::ServiceUnavailable | Status::NotFound | Status::Timeout => {
                Ok(Ended::Owner(*status))
            }
            Status::Ok
            | Status::BadRequest
            | Status::Unauthorized
            | Status::Forbidden
            | Status::InvalidSession
            | Status::InternalError
            | Status::Other(_) => Err(Ended::Owner(*status)),
        },
        AttachError::Answer(_) | AttachError::Wish(_) | AttachError::Here { .. } => {
            Err(Ended::Failed(error.to_string()))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::super::fake::FakeSession;
    use super::*;
    use crate::wire::error::ErrorMap;

    fn refused(status: Status) -> AttachError {
        let error = ErrorMap::default();
        AttachError::Ask(AskError::Refused { status, error })
    }

    /// What comes of it when the owner answers so each time, and how often it was asked.
    async fn asked(answer: fn(u32) -> Result<u32, AttachError>) -> (Result<u32, Ended>, u32) {
        let session = FakeSession::new(|_| (), |_, _| Ok(Vec::new()));
        let count = Rc::new(Cell::new(0));
        let counted = Rc::clone(&count);
        let end = again(session, Duration::from_secs(5), move |_| {
            counted.set(counted.get() + 1);
            let answer = answer(counted.get());
            async move { answer }
        });
        (end.await, count.get())
    }

    #[tokio::test(start_paused = true)]
    async fn an_owner_that_still_holds_the_lost_session_is_asked_again() {
        let answer = |count| match count {
            1 => Err(refused(Status::ServiceUnavailable)),
            2 => Err(refused(Status::NotFound)),
            _ => Ok(count),
        };
        assert_eq!(asked(answer).await, (Ok(3), 3));
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_refusal_is_the_end_when_the_time_is_over() {
        let (end, count) = asked(|_| Err(refused(Status::NotFound))).await;
        assert_eq!(end, Err(Ended::Owner(Status::NotFound)));
        assert_eq!(count, 5);
    }

    #[tokio::test(start_paused = true)]
    async fn a_lost_right_ends_it_at_once() {
        let (end, count) = asked(|_| Err(refused(Status::Forbidden))).await;
        assert_eq!((end, count), (Err(Ended::Owner(Status::Forbidden)), 1));
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_session_it_ends_after_the_grace_time() {
        let session = FakeSession::new(|_| (), |_, _| Ok(Vec::new()));
        session.cut();
        let began = Instant::now();
        let end = again(session, Duration::from_secs(7), |_| async { Ok(()) });
        assert_eq!(end.await, Err(Ended::Session));
        assert_eq!(began.elapsed(), Duration::from_secs(7));
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_that_comes_back_in_time_is_used() {
        let session = FakeSession::new(|_| (), |_, _| Ok(Vec::new()));
        session.cut();
        let later = Rc::clone(&session);
        let mend = async {
            sleep(Duration::from_secs(3)).await;
            later.mend();
        };
        let back = again(session, Duration::from_secs(7), |_| async { Ok(5) });
        assert_eq!(tokio::join!(back, mend).0, Ok(5));
    }
}
