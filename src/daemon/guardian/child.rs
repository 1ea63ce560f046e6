//! The guardian itself.

use std::collections::BTreeMap;
use std::io::{self, BufRead};
use std::path::Path;
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::SigSet;

use super::{Loan, Word};
use crate::bus::usb::hardware::usbfs;
use crate::bus::usb::server::mend;
use crate::kernel::privileges::drop_capabilities;

/// Pauses while the kernel still closes a killed server's files, or another program has the device.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
/// All pauses together are about half a minute.
const PAUSES: u32 = 40;
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Runs the guardian until the server has ended and what it had lent is back.
///
/// # Errors
/// Privileges cannot be given up.
pub fn run() -> io::Result<()> {
    prctl::set_no_new_privs()?;
    drop_capabilities()?;
    // Whoever ends the server ends this by it; before that, this must not go first.
    SigSet::all().thread_block()?;
    let loans = listen(io::stdin().lock());
    let workers = loans.into_iter().map(|loan| {
        thread::spawn(move || {
            let open = || usbfs::open_port(Path::new("/dev"), &loan.location);
            let mended = patiently(&mut thread::sleep, &mut || {
                mend(&*open()?, loan.configuration)
            });
            tell(&loan, &mended);
        })
    });
    for worker in workers.collect::<Vec<_>>() {
        let _ = worker.join();
    }
    Ok(())
}

/// Follows what is lent until nobody speaks any more; what is lent then.
fn listen(input: impl BufRead) -> Vec<Loan> {
    let mut loans = BTreeMap::new();
    for line in input.lines().map_while(Result::ok) {
        match line.parse() {
            Ok(Word::Lent(loan)) => {
                loans.insert((loan.location.bus, loan.location.address), loan);
            }
            Ok(Word::Back(bus, address)) => {
                loans.remove(&(bus, address));
            }
            Err(error) => {
                let error: &super::NoWord = &error;
                tracing::error!(%error, "not understood");
            }
        }
    }
    loans.into_values().collect()
}

/// Tries until it succeeds, or fails for another reason than that somebody has the device.
fn patiently(
    sleep: &mut dyn FnMut(Duration),
    attempt: &mut dyn FnMut() -> io::Result<()>,
) -> io::Result<()> {
    let mut pause = FIRST_PAUSE;
    for _ in 0..PAUSES {
        match attempt() {
            Err(error) if errno(&error) == Some(Errno::EBUSY) => {}
            done => return done,
        }
        sleep(pause);
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
    attempt()
}

fn tell(loan: &Loan, mended: &io::Result<()>) {
    let device = loan.location.sysfs.file_name().unwrap_or_default();
    match mended {
        Ok(()) => {
            tracing::warn!(
                ?device,
                "the server was killed; gave the device back to its drivers"
            );
        }
        Err(error) if matches!(errno(error), Some(Errno::ENOENT | Errno::ENODEV)) => {}
        Err(error) => {
            tracing::warn!(?device, %error, "the server was killed; the device was not given back");
        }
    }
}

fn errno(error: &io::Error) -> Option<Errno> {
    error.raw_os_error().map(Errno::from_raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_lent_at_the_end_is_mended() {
        let said = "lent 1 2 1 /sys/a\nlent 1 3 1 /sys/b\nwhat\nback 1 2\nlent 2 2 0 /sys/c\n\
                    back 7 7\nlent 9";
        let left: Vec<_> = listen(said.as_bytes())
            .into_iter()
            .map(|loan| (loan.location.bus, loan.location.address))
            .collect();
        assert_eq!(left, [(1, 3), (2, 2)]);
        assert_eq!(listen(&b""[..]), []);
    }

    #[test]
    fn a_device_that_is_still_held_is_tried_again_and_one_that_is_gone_is_not() {
        let mut pauses = Vec::new();
        let mut attempts = 0;
        let done = patiently(&mut |pause| pauses.push(pause), &mut || {
            attempts += 1;
            if attempts < 4 {
                return Err(Errno::EBUSY.into());
            }
            Ok(())
        });
        assert!(done.is_ok());
        assert_eq!(pauses, [10, 20, 40].map(Duration::from_millis));
        let gone = patiently(&mut |_| panic!("no reason to wait"), &mut || {
            Err(Errno::ENODEV.into())
        });
        assert_eq!(errno(&gone.unwrap_err()), Some(Errno::ENODEV));
    }

    #[test]
    fn the_patience_ends() {
        let mut waited = Duration::ZERO;
        let busy = patiently(&mut |pause| waited += pause, &mut || {
            Err(Errno::EBUSY.into())
        });
        assert_eq!(errno(&busy.unwrap_err()), Some(Errno::EBUSY));
        assert!((30..60).contains(&waited.as_secs()), "{waited:?}");
    }
}
