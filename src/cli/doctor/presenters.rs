//! Whether this machine can make devices of each bus local. Not everybody wants each: what is missing is
//! no failure.

use super::Check;
use crate::bus::{AttachError, Presenter};

/// A line for each bus of the table.
pub(super) fn all(presenters: &[&'static Presenter]) -> Vec<Check> {
    let check = |presenter: &&'static Presenter| {
        let class = presenter.class;
        match (presenter.check)() {
            Ok(()) => Check::ok(class, "such devices can be attached here"),
            Err(error) => missing(class, &error),
        }
    };
    presenters.iter().map(check).collect()
}

fn missing(class: &'static str, error: &AttachError) -> Check {
    match error {
        AttachError::Here { what, cause, mend } => Check {
            mend: mend.clone(),
            ..Check::warn(class, format!("not attachable here: {what}: {cause}"))
        },
        AttachError::Ask(_) | AttachError::Answer(_) | AttachError::Wish(_) => {
            Check::warn(class, error.to_string())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::super::Verdict;
    use super::*;

    const PRESENT: Presenter = Presenter {
        class: "echo",
        ways: &[],
        named: false,
        options: &[],
        check: || Ok(()),
        attach: |_, _, _| unreachable!(),
        operate: None,
    };
    const ABSENT: Presenter = Presenter {
        class: "choir",
        check: || {
            Err(AttachError::Here {
                what: "there is no voice".to_owned(),
                cause: io::Error::from_raw_os_error(nix::libc::ENOENT),
                mend: Some("modprobe voice".to_owned()),
            })
        },
        ..PRESENT
    };

    #[test]
    fn each_bus_says_whether_it_works_here_and_what_mends_it() {
        let checks = all(&[&PRESENT, &ABSENT]);
        assert_eq!(checks[0].verdict, Verdict::Ok);
        let absent = &checks[1];
        assert_eq!((absent.name, absent.verdict), ("choir", Verdict::Warn));
        assert!(absent.detail.contains("there is no voice: No such file"));
        assert_eq!(absent.mend.as_deref(), Some("modprobe voice"));
    }
}
