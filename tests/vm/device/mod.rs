//! A USB device in software, on a vhci port of the kernel that it runs in.
//!
//! Its kernel sees a device that was plugged in; this process holds the other end of the socket and
//! answers as the device's firmware would, in real time: an isochronous URB completes when the
//! frames that it covers have passed, and frames that nobody asked for in time are lost. An interrupt
//! endpoint is asked once in its interval.

mod camera;
mod control;
mod microphone;
mod mouse;
mod schedule;

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use myclerk::kernel::usbip_pdu::{
    Command, HEADER, IsoDescriptor, RetSubmit, RetUnlink, Return, Submit,
};
use myclerk::kernel::vhci::{Speed, Vhci};

pub(crate) use camera::Camera;
pub(crate) use microphone::Microphone;
pub(crate) use mouse::Mouse;
use schedule::{Pending, Schedule};

/// Only a name (vhci's `devid`).
const DEVID: u32 = 0x0001_0001;
const EPIPE: i32 = -32;
const ECONNRESET: i32 = -104;

/// What one kind of device adds to what all devices do.
pub(crate) trait Function {
    fn identity(&self) -> Identity;
    /// How many interfaces the only configuration has, and all descriptors behind its own.
    fn interfaces(&self) -> (u8, Vec<u8>);
    /// A class or vendor request, or one for a descriptor of the class; `None` stalls it.
    fn request(&mut self, _setup: [u8; 8], _data: &[u8]) -> Option<Vec<u8>> {
        None
    }
    /// The time between two packets of its endpoints.
    fn interval(&self) -> Duration;
    /// What the isochronous endpoint sends in the interval of that number, counted from when it was
    /// plugged in.
    fn packet(&mut self, _endpoint: u8, _number: u64) -> Vec<u8> {
        vec![]
    }
    /// What the interrupt endpoint says next; `None` while there is nothing.
    fn report(&mut self, _endpoint: u8) -> Option<Vec<u8>> {
        None
    }
}

/// What its device descriptor is made of.
pub(crate) struct Identity {
    pub speed: Speed,
    /// Class, subclass and protocol.
    pub class: [u8; 3],
    pub product: u16,
    /// Manufacturer, product and serial number.
    pub strings: [&'static str; 3],
}

/// A URB as the host submitted it.
struct Urb {
    submit: Submit,
    data: Vec<u8>,
    packets: Vec<IsoDescriptor>,
}

enum FromHost {
    Submit(Urb),
    Unlink { seqnum: u32, target: u32 },
}

/// Plugs the device in and is it until the host lets go of the socket.
///
/// # Errors
/// When there is no port for it, or the kernel says what no host says.
pub(crate) fn plug_in(function: &mut dyn Function) -> io::Result<()> {
    let (socket, kernels) = UnixStream::pair()?;
    Vhci::system()
        .attach(kernels.as_fd(), DEVID, function.identity().speed)
        .map_err(io::Error::other)?;
    drop(kernels);
    let (sender, commands) = channel();
    let reading = socket.try_clone()?;
    let reader = std::thread::spawn(move || read_commands(reading, &sender));
    Device {
        schedule: Schedule::new(function.interval()),
        control: control::State::default(),
        function,
        socket,
    }
    .serve(&commands)?;
    reader.join().unwrap_or(Ok(()))
}

/// Until the socket's end, which is no error.
fn read_commands(mut socket: UnixStream, to: &Sender<FromHost>) -> io::Result<()> {
    let mut header = [0; HEADER];
    loop {
        match socket.read_exact(&mut header) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            result => result?,
        }
        let command = match Command::parse(&header).map_err(io::Error::other)? {
            Command::Submit(submit) => FromHost::Submit(read_urb(&mut socket, submit)?),
            Command::Unlink(unlink) => FromHost::Unlink {
                seqnum: unlink.seqnum,
                target: unlink.target,
            },
        };
        if to.send(command).is_err() {
            return Ok(());
        }
    }
}

fn read_urb(socket: &mut UnixStream, submit: Submit) -> io::Result<Urb> {
    let mut data = vec![0; usize::try_from(submit.data_len()).map_err(io::Error::other)?];
    socket.read_exact(&mut data)?;
    let mut packets = vec![0; submit.iso_len()];
    socket.read_exact(&mut packets)?;
    Ok(Urb {
        submit,
        data,
        packets: IsoDescriptor::parse_all(&packets, submit.length).map_err(io::Error::other)?,
    })
}

struct Device<'a> {
    function: &'a mut dyn Function,
    control: control::State,
    schedule: Schedule,
    socket: UnixStream,
}

impl Device<'_> {
    fn serve(&mut self, commands: &Receiver<FromHost>) -> io::Result<()> {
        loop {
            let command = match self.schedule.next_due() {
                None => commands.recv().map_err(RecvTimeoutError::from),
                Some(due) => commands.recv_timeout(due.saturating_duration_since(Instant::now())),
            };
            match command {
                Ok(FromHost::Submit(urb)) => self.submit(urb)?,
                Ok(FromHost::Unlink { seqnum, target }) => self.unlink(seqnum, target)?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
            while let Some(pending) = self.schedule.take_due(Instant::now()) {
                self.complete(pending)?;
            }
        }
    }

    fn submit(&mut self, urb: Urb) -> io::Result<()> {
        let submit = urb.submit;
        if submit.ep == 0 {
            let answer = self.control.answer(self.function, submit.setup, &urb.data);
            return self.answer(&submit, answer);
        }
        if submit.input {
            self.schedule.add(urb, Instant::now());
            return Ok(());
        }
        // No other endpoints so far.
        self.answer(&submit, None)
    }

    /// `None` is a stall.
    fn answer(&mut self, submit: &Submit, answer: Option<Vec<u8>>) -> io::Result<()> {
        let status = if answer.is_some() { 0 } else { EPIPE };
        let mut data = answer.unwrap_or_default();
        data.truncate(usize::try_from(submit.length).unwrap_or(usize::MAX));
        let actual = if submit.input {
            u32::try_from(data.len()).map_err(io::Error::other)?
        } else {
            data.clear();
            submit.data_len()
        };
        let header = Return::Submit(RetSubmit {
            seqnum: submit.seqnum,
            status,
            actual_length: if status == 0 { actual } else { 0 },
            start_frame: 0,
            packets: 0,
            error_count: 0,
        });
        self.send(header, &data)
    }

    fn complete(&mut self, pending: Pending) -> io::Result<()> {
        let submit = pending.urb.submit;
        if submit.packets > 0 {
            return self.complete_isochronous(&pending);
        }
        let report = self.function.report(submit.ep);
        if report.is_some() {
            return self.answer(&submit, report);
        }
        self.schedule.add(pending.urb, Instant::now());
        Ok(())
    }

    /// The packets in a row, without the room that they did not need.
    fn complete_isochronous(&mut self, pending: &Pending) -> io::Result<()> {
        let submit = pending.urb.submit;
        let mut body = Vec::new();
        let mut descriptors = Vec::new();
        for (number, asked) in (pending.first..).zip(&pending.urb.packets) {
            let mut data = self.function.packet(submit.ep, number);
            data.truncate(usize::try_from(asked.length).unwrap_or(usize::MAX));
            body.extend_from_slice(&data);
            IsoDescriptor {
                actual_length: u32::try_from(data.len()).map_err(io::Error::other)?,
                status: 0,
                ..*asked
            }
            .write(&mut descriptors);
        }
        let header = Return::Submit(RetSubmit {
            seqnum: submit.seqnum,
            status: 0,
            actual_length: u32::try_from(body.len()).map_err(io::Error::other)?,
            start_frame: u32::try_from(pending.first & 0x7ff).map_err(io::Error::other)?,
            packets: submit.packets,
            error_count: 0,
        });
        body.append(&mut descriptors);
        self.send(header, &body)
    }

    fn unlink(&mut self, seqnum: u32, target: u32) -> io::Result<()> {
        let status = if self.schedule.remove(target) {
            ECONNRESET
        } else {
            0
        };
        self.send(Return::Unlink(RetUnlink { seqnum, status }), &[])
    }

    fn send(&mut self, header: Return, body: &[u8]) -> io::Result<()> {
        let message = [&header.to_bytes()[..], body].concat();
        self.socket.write_all(&message)
    }
}
