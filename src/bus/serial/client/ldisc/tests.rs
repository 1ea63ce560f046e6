use super::*;

const RAW: Termios = Termios {
    iflag: 0,
    oflag: 0,
    lflag: 0,
    ..Termios::FIRST
};

struct Line {
    discipline: Discipline,
    termios: Termios,
}

impl Line {
    fn new(termios: Termios) -> Self {
        Self {
            discipline: Discipline::default(),
            termios,
        }
    }

    fn cooked() -> Self {
        Self::new(Termios::FIRST)
    }

    fn type_in(&mut self, bytes: &[u8]) -> &mut Self {
        for &byte in bytes {
            assert_ne!(
                self.discipline.receive(&self.termios, byte),
                Taken::Full,
                "no room"
            );
        }
        self
    }

    fn read(&mut self, most: usize) -> Vec<u8> {
        let mut into = Vec::new();
        self.discipline.read(&self.termios, most, &mut into);
        into
    }

    fn readable(&self) -> bool {
        self.discipline.readable(&self.termios, 1)
    }

    fn echo(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.discipline.echo)
    }
}

#[test]
fn a_line_is_readable_when_it_is_whole() {
    let mut line = Line::cooked();
    assert!(!line.type_in(b"hello").readable());
    assert!(line.type_in(b"\r").readable());
    assert_eq!(line.read(100), b"hello\n");
    assert!(!line.readable());
}

#[test]
fn a_line_is_read_in_pieces_and_not_together_with_the_next() {
    let mut line = Line::cooked();
    line.type_in(b"one\ntwo\n");
    assert_eq!(line.read(2), b"on");
    assert_eq!(line.read(100), b"e\n");
    assert_eq!(line.read(100), b"two\n");
}

#[test]
fn end_of_file_ends_a_line_and_is_no_byte_of_it() {
    let mut line = Line::cooked();
    line.type_in(b"ab\x04cd\n\x04");
    assert_eq!(line.discipline.count(&line.termios), 5);
    assert_eq!(line.read(2), b"ab");
    assert_eq!(line.read(100), b"cd\n");
    assert!(line.readable(), "an end of file waits");
    assert_eq!(line.read(100), b"");
    assert!(!line.readable());
}

#[test]
fn other_ends_of_line_stay_in_the_line() {
    let mut line = Line::cooked();
    line.termios.cc[Control::Eol as usize] = b';';
    line.termios.cc[Control::Eol2 as usize] = b'!';
    line.type_in(b"a;b!");
    assert_eq!(line.read(100), b"a;");
    assert_eq!(line.read(100), b"b!");
}

#[test]
fn typed_characters_are_erased_and_the_screen_says_so() {
    let mut line = Line::cooked();
    line.type_in(b"ab\x7F\x7F\x7Fc\n");
    assert_eq!(line.echo(), b"ab\x08 \x08\x08 \x08c\r\n");
    assert_eq!(line.read(100), b"c\n");
}

#[test]
fn an_erased_control_character_takes_two_columns_and_a_tab_its_own() {
    let mut line = Line::cooked();
    line.type_in(b"\x01\x7F");
    assert_eq!(line.echo(), b"^A\x08 \x08\x08 \x08");
    line.type_in(b"abc\t\x7F");
    assert_eq!(line.echo(), b"abc\t\x08\x08\x08\x08\x08");
}

#[test]
fn a_character_of_several_bytes_is_erased_whole() {
    let mut line = Line::cooked();
    line.termios.iflag |= flag::IUTF8;
    line.type_in("aä".as_bytes());
    line.echo();
    line.type_in(b"\x7F\n");
    assert_eq!(line.echo(), b"\x08 \x08\r\n");
    assert_eq!(line.read(100), b"a\n");
}

#[test]
fn a_word_and_a_line_are_erased() {
    let mut line = Line::cooked();
    line.type_in(b"one two  \x17three\n");
    assert_eq!(line.read(100), b"one three\n");
    line.type_in(b"nothing of this\x15rest\n");
    assert_eq!(line.read(100), b"rest\n");
}

#[test]
fn a_killed_line_is_shown_as_the_settings_want() {
    let mut line = Line::cooked();
    line.type_in(b"ab\x15");
    assert_eq!(line.echo(), b"ab\x08 \x08\x08 \x08");
    line.termios.lflag &= !flag::ECHOKE;
    line.type_in(b"ab\x15");
    assert_eq!(line.echo(), b"ab^U\r\n");
    line.termios.lflag &= !flag::ECHOK;
    line.type_in(b"ab\x15");
    assert_eq!(line.echo(), b"ab^U");
}

#[test]
fn erased_characters_are_printed_between_slashes() {
    let mut line = Line::cooked();
    line.termios.lflag |= flag::ECHOPRT;
    line.type_in(b"abc\x7F\x7Fx");
    assert_eq!(line.echo(), b"abc\\cb/x");
}

#[test]
fn a_literal_character_has_no_meaning() {
    let mut line = Line::cooked();
    line.type_in(b"\x16\x04\x16\x7F\n");
    assert_eq!(line.read(100), b"\x04\x7F\n");
    assert_eq!(line.echo(), b"^\x08^D^\x08^?\r\n");
}

#[test]
fn the_line_is_shown_again() {
    let mut line = Line::cooked();
    line.type_in(b"ab");
    line.echo();
    line.type_in(b"\x12");
    assert_eq!(line.echo(), b"^R\r\nab");
}

#[test]
fn a_newline_alone_may_be_sent_back() {
    let mut line = Line::cooked();
    line.termios.lflag &= !flag::ECHO;
    line.type_in(b"x\n");
    assert_eq!(line.echo(), b"");
    line.termios.lflag |= flag::ECHONL;
    line.type_in(b"x\n");
    assert_eq!(line.echo(), b"\r\n");
}

#[test]
fn line_ends_are_translated_on_their_way_in() {
    let with = |iflag, bytes: &[u8]| {
        let mut line = Line::new(Termios { iflag, ..RAW });
        line.type_in(bytes).read(100)
    };
    assert_eq!(with(flag::ICRNL, b"\r\n"), b"\n\n");
    assert_eq!(with(flag::INLCR, b"\r\n"), b"\r\r");
    assert_eq!(with(flag::IGNCR | flag::ICRNL, b"\r\n"), b"\n");
    assert_eq!(with(flag::ISTRIP, b"\xE1"), b"a");
    assert_eq!(with(flag::IUCLC, b"aB"), b"aB");
    let mut line = Line::new(Termios {
        iflag: flag::IUCLC,
        lflag: flag::IEXTEN,
        ..RAW
    });
    assert_eq!(line.type_in(b"aB").read(100), b"ab");
}

#[test]
fn output_stops_and_starts_as_the_line_says() {
    let mut line = Line::new(Termios {
        iflag: flag::IXON,
        ..RAW
    });
    assert!(line.type_in(b"\x13").discipline.is_stopped());
    assert!(line.type_in(b"x").discipline.is_stopped());
    assert!(!line.type_in(b"\x11").discipline.is_stopped());
    line.termios.iflag |= flag::IXANY;
    assert!(!line.type_in(b"\x13y").discipline.is_stopped());
    assert_eq!(line.read(100), b"xy");
    line.discipline.flow_at_owner(true);
    assert_eq!(line.type_in(b"\x13\x11").read(100), b"\x13\x11");
}

#[test]
fn output_that_was_stopped_goes_on_without_flow_control() {
    let mut line = Line::new(Termios {
        iflag: flag::IXON,
        ..RAW
    });
    line.type_in(b"\x13");
    line.discipline.change(&line.termios, &RAW);
    assert!(!line.discipline.is_stopped());
}

#[test]
fn an_interrupt_is_eaten_and_empties_the_queues() {
    let mut line = Line::cooked();
    line.type_in(b"abc\nab");
    line.echo();
    let taken = line.discipline.receive(&line.termios, 3);
    assert_eq!(taken, Taken::Flush);
    assert_eq!(line.echo(), b"^C");
    assert!(!line.type_in(b"").readable());
    line.termios.lflag |= flag::NOFLSH;
    line.type_in(b"abc\x03\n");
    assert_eq!(line.read(100), b"abc\n");
}

#[test]
fn a_byte_of_all_ones_is_doubled_where_errors_are_marked() {
    let mut line = Line::new(Termios {
        iflag: flag::PARMRK,
        ..RAW
    });
    assert_eq!(line.type_in(b"a\xFFb").read(100), b"a\xFF\xFFb");
}

#[test]
fn a_full_queue_takes_nothing_until_it_is_read() {
    let mut line = Line::new(RAW);
    line.type_in(&[b'x'; 4095]);
    assert_eq!(line.discipline.receive(&RAW, b'y'), Taken::Full);
    assert_eq!(line.read(1), b"x");
    assert_eq!(line.discipline.receive(&RAW, b'y'), Taken::Yes);
    assert_eq!(line.read(9999).len(), 4095);
}

#[test]
fn a_line_that_is_too_long_can_still_be_ended() {
    let mut line = Line::cooked();
    line.type_in(&[b'x'; 5000]).type_in(b"\n");
    let read = line.read(9999);
    assert_eq!(read.len(), 4096);
    assert!(read.ends_with(b"x\n"));
    let mut line = Line::cooked();
    line.type_in(b"a\n").type_in(&[b'x'; 4093]);
    assert_eq!(
        line.discipline.receive(&line.termios, b'\n'),
        Taken::Full,
        "a line waits to be read"
    );
}

#[test]
fn what_was_typed_is_readable_when_lines_are_no_longer_wanted() {
    let mut line = Line::cooked();
    line.type_in(b"abc");
    assert!(!line.readable());
    line.discipline.change(&line.termios, &RAW);
    line.termios = RAW;
    assert!(line.readable());
    line.discipline.change(&RAW, &Termios::FIRST);
    line.termios = Termios::FIRST;
    assert!(line.readable(), "what waited counts as a line");
    assert_eq!(line.read(100), b"abc");
}

#[test]
fn input_is_thrown_away_where_it_is_not_wanted() {
    let mut line = Line::new(Termios {
        cflag: RAW.cflag & !flag::CREAD,
        ..RAW
    });
    assert!(!line.type_in(b"abc").readable());
}

#[test]
fn bytes_are_taken_in_one_go_as_one_by_one() {
    let bytes: Vec<u8> = (0..5000_u32).map(|n| n.to_le_bytes()[0]).collect();
    for iflag in [0, flag::PARMRK, flag::IXON, flag::ICRNL, flag::IGNPAR] {
        let mut together = Line::new(Termios { iflag, ..RAW });
        let mut alone = Line::new(Termios { iflag, ..RAW });
        let (count, taken) = together.discipline.receive_all(&together.termios, &bytes);
        assert_eq!(taken, Taken::Full);
        for &byte in &bytes[..count] {
            assert_eq!(alone.discipline.receive(&alone.termios, byte), Taken::Yes);
        }
        assert_eq!(
            alone.discipline.receive(&alone.termios, bytes[count]),
            Taken::Full
        );
        assert_eq!(together.read(9999), alone.read(9999));
    }
}

#[test]
fn echo_that_cannot_be_sent_is_bounded() {
    let mut line = Line::cooked();
    for _ in 0..5000 {
        line.type_in(b"\x01\x7F");
    }
    assert!(line.echo().len() <= ECHOES + 4);
}
