//! The bits of a tty's settings and its special characters (kernel
//! `include/uapi/asm-generic/termbits.h`, `termbits-common.h`).

/// `c_iflag`: a break is not seen.
pub const IGNBRK: u32 = 0o1;
/// A break empties the queues.
pub const BRKINT: u32 = 0o2;
/// Bytes with errors are not seen.
pub const IGNPAR: u32 = 0o4;
/// Errors and breaks are marked.
pub const PARMRK: u32 = 0o10;
/// Parity is checked.
pub const INPCK: u32 = 0o20;
/// The eighth bit is cut off.
pub const ISTRIP: u32 = 0o40;
/// NL becomes CR.
pub const INLCR: u32 = 0o100;
/// CR is not seen.
pub const IGNCR: u32 = 0o200;
/// CR becomes NL.
pub const ICRNL: u32 = 0o400;
/// Upper case becomes lower case.
pub const IUCLC: u32 = 0o1000;
/// STOP and START stop and start output.
pub const IXON: u32 = 0o2000;
/// Anything starts output again.
pub const IXANY: u32 = 0o4000;
/// STOP and START are sent.
pub const IXOFF: u32 = 0o10000;
/// Erasing goes by UTF-8 characters.
pub const IUTF8: u32 = 0o40000;

/// `c_oflag`: the other bits of it count.
pub const OPOST: u32 = 0o1;
/// Lower case becomes upper case.
pub const OLCUC: u32 = 0o2;
/// NL becomes CR NL.
pub const ONLCR: u32 = 0o4;
/// CR becomes NL.
pub const OCRNL: u32 = 0o10;
/// No CR at column 0.
pub const ONOCR: u32 = 0o20;
/// NL does what CR does.
pub const ONLRET: u32 = 0o40;
/// What is done with a tab.
pub const TABDLY: u32 = 0o14000;
/// Tabs become spaces.
pub const XTABS: u32 = 0o14000;

/// `c_cflag`: how many bits a byte has.
pub const CSIZE: u32 = 0o60;
/// Eight.
pub const CS8: u32 = 0o60;
/// Two stop bits.
pub const CSTOPB: u32 = 0o100;
/// Input is wanted.
pub const CREAD: u32 = 0o200;
/// There is a parity bit.
pub const PARENB: u32 = 0o400;
/// It is odd.
pub const PARODD: u32 = 0o1000;
/// The last close drops DTR and RTS.
pub const HUPCL: u32 = 0o2000;
/// Carrier is not looked at.
pub const CLOCAL: u32 = 0o4000;
/// The parity bit is always 1, or always 0.
pub const CMSPAR: u32 = 0o10_000_000_000;
/// RTS and CTS hold the senders back.
pub const CRTSCTS: u32 = 0o20_000_000_000;

/// `c_lflag`: INTR, QUIT and SUSP.
pub const ISIG: u32 = 0o1;
/// Lines.
pub const ICANON: u32 = 0o2;
/// Input is sent back.
pub const ECHO: u32 = 0o10;
/// ERASE is shown as backspace, space, backspace.
pub const ECHOE: u32 = 0o20;
/// NL behind KILL.
pub const ECHOK: u32 = 0o40;
/// NL is sent back even without ECHO.
pub const ECHONL: u32 = 0o100;
/// INTR, QUIT and SUSP leave the queues alone.
pub const NOFLSH: u32 = 0o200;
/// Control characters are shown as ^X.
pub const ECHOCTL: u32 = 0o1000;
/// Erased characters are printed.
pub const ECHOPRT: u32 = 0o2000;
/// KILL is shown by erasing.
pub const ECHOKE: u32 = 0o4000;
/// WERASE, LNEXT, REPRINT, EOL2.
pub const IEXTEN: u32 = 0o100_000;

/// An entry of `c_cc`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "they are the kernel's names without the V")]
pub enum Control {
    Intr = 0,
    Quit = 1,
    Erase = 2,
    Kill = 3,
    Eof = 4,
    Time = 5,
    Min = 6,
    Start = 8,
    Stop = 9,
    Susp = 10,
    Eol = 11,
    Reprint = 12,
    Werase = 14,
    Lnext = 15,
    Eol2 = 16,
}
