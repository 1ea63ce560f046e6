//! The settings of a tty as the kernel's own structures have them, not as a C library's do
//! (kernel `include/uapi/asm-generic/termbits.h`).

pub mod baud;
pub mod flag;

/// Bytes of `struct termios`.
pub const TERMIOS: usize = 36;
/// Bytes of `struct termios2`, which ends with both speeds.
pub const TERMIOS2: usize = 44;
/// Bytes of `struct termio`.
pub const TERMIO: usize = 18;
/// Entries of `c_cc`.
const CONTROLS: usize = 19;
/// Entries of `c_cc` in `struct termio`.
const TERMIO_CONTROLS: usize = 8;

/// What a program sets with `tcsetattr`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Termios {
    /// What is done with input: [`flag`], `c_iflag`.
    pub iflag: u32,
    /// What is done with output.
    pub oflag: u32,
    /// The line itself.
    pub cflag: u32,
    /// What else is done with input.
    pub lflag: u32,
    /// The line discipline; always 0 here.
    pub line: u8,
    /// The special characters, by [`flag::Control`].
    pub cc: [u8; CONTROLS],
    /// Bits per second from the line.
    pub ispeed: u32,
    /// Bits per second to the line.
    pub ospeed: u32,
}

impl Termios {
    /// What an UART has before any program set it: 9600 8N1, canonical, with echo (kernel
    /// `drivers/tty/tty_io.c` `tty_std_termios`, `drivers/tty/serial/serial_core.c`).
    pub const FIRST: Self = Self {
        iflag: flag::ICRNL | flag::IXON,
        oflag: flag::OPOST | flag::ONLCR,
        cflag: baud::B9600 | flag::CS8 | flag::CREAD | flag::HUPCL | flag::CLOCAL,
        lflag: flag::ISIG
            | flag::ICANON
            | flag::ECHO
            | flag::ECHOE
            | flag::ECHOK
            | flag::ECHOCTL
            | flag::ECHOKE
            | flag::IEXTEN,
        line: 0,
        cc: [
            3, 28, 127, 21, 4, 0, 1, 0, 17, 19, 26, 0, 18, 15, 23, 22, 0, 0, 0,
        ],
        ispeed: 9600,
        ospeed: 9600,
    };

    /// `struct termios`.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(TERMIOS2);
        for flags in [self.iflag, self.oflag, self.cflag, self.lflag] {
            bytes.extend(flags.to_ne_bytes());
        }
        bytes.push(self.line);
        bytes.extend(self.cc);
        bytes
    }

    /// `struct termios2`.
    pub fn encode2(&self) -> Vec<u8> {
        let mut bytes = self.encode();
        bytes.extend(self.ispeed.to_ne_bytes());
        bytes.extend(self.ospeed.to_ne_bytes());
        bytes
    }

    /// `struct termio`: the lower halves of the flags, and fewer special characters.
    pub fn encode_old(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(TERMIO);
        for flags in [self.iflag, self.oflag, self.cflag, self.lflag] {
            let [low, high, ..] = flags.to_le_bytes();
            bytes.extend(u16::from_le_bytes([low, high]).to_ne_bytes());
        }
        bytes.push(self.line);
        bytes.extend(self.cc.iter().take(TERMIO_CONTROLS));
        bytes.push(0);
        bytes
    }

    /// What these settings become when a program sets a `struct termios`: a speed that has no code
    /// stays what it was. `None` when it is too short.
    pub fn set(&self, bytes: &[u8]) -> Option<Self> {
        let (mut new, _) = Self::read(bytes)?;
        (new.ispeed, new.ospeed) = (self.ispeed, self.ospeed);
        Some(new.checked())
    }

    /// The same with a `struct termios2`.
    pub fn set2(bytes: &[u8]) -> Option<Self> {
        let (mut new, speeds) = Self::read(bytes)?;
        let (input, speeds) = speeds.split_first_chunk()?;
        let (output, _) = speeds.split_first_chunk()?;
        new.ispeed = u32::from_ne_bytes(*input);
        new.ospeed = u32::from_ne_bytes(*output);
        Some(new.checked())
    }

    /// The same with a `struct termio`, which leaves alone what it has no room for.
    pub fn set_old(&self, bytes: &[u8]) -> Option<Self> {
        let mut new = *self;
        let mut rest = bytes;
        for flags in [
            &mut new.iflag,
            &mut new.oflag,
            &mut new.cflag,
            &mut new.lflag,
        ] {
            let (low, behind) = rest.split_first_chunk()?;
            *flags = (*flags & !0xFFFF) | u32::from(u16::from_ne_bytes(*low));
            rest = behind;
        }
        let (&_line, rest) = rest.split_first()?;
        for (to, from) in new.cc.iter_mut().zip(rest.get(..TERMIO_CONTROLS)?) {
            *to = *from;
        }
        Some(new.checked())
    }

    fn read(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let mut new = Self::FIRST;
        let mut rest = bytes;
        for flags in [
            &mut new.iflag,
            &mut new.oflag,
            &mut new.cflag,
            &mut new.lflag,
        ] {
            let (value, behind) = rest.split_first_chunk()?;
            *flags = u32::from_ne_bytes(*value);
            rest = behind;
        }
        let (&_line, rest) = rest.split_first()?;
        let (cc, rest) = rest.split_first_chunk()?;
        new.cc = *cc;
        Some((new, rest))
    }

    /// With the speeds that the codes in `c_cflag` stand for.
    fn checked(mut self) -> Self {
        self.ospeed = baud::speed(self.cflag & baud::CBAUD, self.ospeed);
        let input = (self.cflag >> baud::IBSHIFT) & baud::CBAUD;
        self.ispeed = match input {
            0 => self.ospeed,
            code => baud::speed(code, self.ispeed),
        };
        self
    }

    /// Says that the line runs at another speed than was asked for (kernel
    /// `tty_termios_encode_baud_rate`: a code stands for what is within 2 % of it).
    pub fn actual_speed(&mut self, speed: u32) {
        let code = baud::code(speed);
        let input_too = (self.cflag >> baud::IBSHIFT) & baud::CBAUD != 0;
        self.cflag &= !(baud::CBAUD | (baud::CBAUD << baud::IBSHIFT));
        self.cflag |= code;
        if input_too {
            self.cflag |= code << baud::IBSHIFT;
        }
        (self.ispeed, self.ospeed) = (speed, speed);
    }

    /// A special character; `None` when it is disabled.
    pub fn control(&self, which: flag::Control) -> Option<u8> {
        Some(self.setting(which)).filter(|&byte| byte != 0)
    }

    /// An entry of `c_cc` as a number: `VMIN`, `VTIME`.
    pub fn setting(&self, which: flag::Control) -> u8 {
        self.cc.get(which as usize).copied().unwrap_or_default()
    }

    /// Lines, not single bytes.
    pub const fn canonical(&self) -> bool {
        self.lflag & flag::ICANON != 0
    }

    /// Any of the given bits of `c_iflag`.
    pub const fn input(&self, flags: u32) -> bool {
        self.iflag & flags != 0
    }

    /// Any of the given bits of `c_oflag`.
    pub const fn output(&self, flags: u32) -> bool {
        self.oflag & flags != 0
    }

    /// Any of the given bits of `c_cflag`.
    pub const fn line_has(&self, flags: u32) -> bool {
        self.cflag & flags != 0
    }

    /// Any of the given bits of `c_lflag`.
    pub const fn local(&self, flags: u32) -> bool {
        self.lflag & flags != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_structures_have_the_lengths_of_the_kernels() {
        assert_eq!(Termios::FIRST.encode().len(), TERMIOS);
        assert_eq!(Termios::FIRST.encode2().len(), TERMIOS2);
        assert_eq!(Termios::FIRST.encode_old().len(), TERMIO);
    }

    #[test]
    fn what_is_read_back_is_what_was_set() {
        let mut wanted = Termios::FIRST;
        wanted.iflag = flag::IGNBRK | flag::IUTF8;
        wanted.lflag = 0;
        wanted.cc[5] = 7;
        assert_eq!(Termios::FIRST.set(&wanted.encode()), Some(wanted));
        wanted.actual_speed(250_000);
        assert_eq!(Termios::set2(&wanted.encode2()), Some(wanted));
        assert_eq!(wanted.ospeed, 250_000);
        assert_eq!(wanted.cflag & baud::CBAUD, baud::BOTHER);
    }

    #[test]
    fn a_speed_without_a_code_outlives_a_structure_without_speeds() {
        let mut now = Termios::FIRST;
        now.actual_speed(31_250);
        let set = now.set(&now.encode()).unwrap();
        assert_eq!((set.ispeed, set.ospeed), (31_250, 31_250));
    }

    #[test]
    fn the_oldest_structure_leaves_the_upper_halves_alone() {
        let mut now = Termios::FIRST;
        now.cflag |= flag::CRTSCTS;
        let mut bytes = now.encode_old();
        bytes[6..8].copy_from_slice(&0_u16.to_ne_bytes());
        let set = now.set_old(&bytes).unwrap();
        assert!(set.line_has(flag::CRTSCTS));
        assert_eq!(set.lflag & 0xFFFF, 0);
        assert_eq!(set.cc, now.cc);
    }

    #[test]
    fn too_few_bytes_are_no_settings() {
        let bytes = Termios::FIRST.encode2();
        for length in 0..TERMIOS2 {
            assert_eq!(Termios::set2(&bytes[..length]), None, "{length}");
        }
        for length in 0..TERMIOS {
            assert_eq!(Termios::FIRST.set(&bytes[..length]), None, "{length}");
        }
        let old = Termios::FIRST.encode_old();
        for length in 0..TERMIO - 1 {
            assert_eq!(Termios::FIRST.set_old(&old[..length]), None, "{length}");
        }
    }

    #[test]
    fn input_runs_at_the_speed_of_output_unless_it_has_its_own() {
        let mut bytes = Termios::FIRST;
        bytes.cflag = (bytes.cflag & !baud::CBAUD) | 0o15;
        let set = Termios::FIRST.set(&bytes.encode()).unwrap();
        assert_eq!((set.ispeed, set.ospeed), (9600, 9600));
        bytes.cflag = (bytes.cflag & !baud::CBAUD) | 0o10002;
        let set = Termios::FIRST.set(&bytes.encode()).unwrap();
        assert_eq!((set.ispeed, set.ospeed), (115_200, 115_200));
    }
}
