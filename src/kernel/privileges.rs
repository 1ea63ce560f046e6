//! Giving up what a process does not need (kernel `kernel/capability.c`).

use std::io;

/// `_LINUX_CAPABILITY_VERSION_3`: two words of 32 capabilities each.
const VERSION: u32 = 0x2008_0522;

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Data {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Gives up every capability of the calling thread, for good. Root is an ordinary user then, who
/// owns root's files.
///
/// # Errors
/// What the kernel says; giving up is never refused.
pub fn drop_capabilities() -> io::Result<()> {
    let mut header = Header {
        version: VERSION,
        pid: 0,
    };
    let none = [Data::default(); 2];
    // SAFETY: the header is writable, and of this version are two words of data, which are read.
    let done = unsafe { libc::syscall(libc::SYS_capset, &raw mut header, none.as_ptr()) };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_without_capabilities_has_none_left() {
        let status = std::thread::spawn(|| {
            drop_capabilities().unwrap();
            std::fs::read_to_string("/proc/thread-self/status").unwrap()
        });
        let status = status.join().unwrap();
        for set in ["CapInh", "CapPrm", "CapEff"] {
            let none = format!("{set}:\t{:016x}", 0);
            assert!(status.lines().any(|line| line == none), "{status}");
        }
    }
}
