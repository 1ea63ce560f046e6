//! Sound in which every frame is known: frame number N of a run, counted from 1, is N as 32 bits in
//! little endian, which is one frame of two 16-bit samples. Silence is never a frame of a run.

use std::io;
use std::ops::RangeInclusive;
use std::path::Path;

/// Bytes of a frame.
const FRAME: usize = 4;
/// Bytes before the samples in QEMU's and arecord's WAV files.
const WAV_HEADER: usize = 44;

/// So many frames of a run, from that number on; numbers wrap after a day.
pub(crate) fn frames(first: u64, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count * FRAME];
    for (frame, number) in bytes.as_chunks_mut().0.iter_mut().zip(first..) {
        let [a, b, c, d, ..] = number.to_le_bytes();
        *frame = [a, b, c, d];
    }
    bytes
}

/// Writes `lead` frames of silence, a run of `run`, and `tail` frames of silence.
pub(crate) fn write(file: &Path, lead: usize, run: usize, tail: usize) -> io::Result<()> {
    let silence = |count| vec![0; count * FRAME];
    std::fs::write(
        file,
        [silence(lead), frames(1, run), silence(tail)].concat(),
    )
}

/// The one run in a raw or WAV file, between silence.
///
/// # Errors
/// What breaks the run, or that there is none.
pub(crate) fn find(file: &Path) -> io::Result<RangeInclusive<u32>> {
    let bytes = std::fs::read(file)?;
    let samples = if bytes.starts_with(b"RIFF") {
        bytes.get(WAV_HEADER..).unwrap_or_default()
    } else {
        &bytes
    };
    let (frames, _half) = samples.as_chunks::<FRAME>();
    let mut numbers = frames
        .iter()
        .map(|frame| u32::from_le_bytes(*frame))
        .enumerate()
        .skip_while(|(_, number)| *number == 0);
    let Some((_, first)) = numbers.next() else {
        return Err(io::Error::other("nothing but silence"));
    };
    let mut last = first;
    for (_, number) in numbers.by_ref().take_while(|(_, number)| *number != 0) {
        if number != last.wrapping_add(1) {
            return Err(io::Error::other(format!("{number} follows {last}")));
        }
        last = number;
    }
    match numbers.find(|(_, number)| *number != 0) {
        None => Ok(first..=last),
        Some((at, number)) => Err(io::Error::other(format!(
            "silence after {last}, and {number} at frame {at} of the file"
        ))),
    }
}
