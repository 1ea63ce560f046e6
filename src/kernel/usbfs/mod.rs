//! USB devices through `/dev/bus/usb/BBB/DDD` (drivers/usb/core/devio.c).
//!
//! Every ioctl takes the device's lock in the kernel, and those marked *may block* hold it while
//! they wait for the hardware. Call them on a thread that may wait, and neither submit nor reap on
//! another thread meanwhile, or that one waits too.

mod abi;
mod events;
mod urb;

use core::ffi::{c_char, c_uint, c_void};
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;

pub use events::Events;
pub use urb::{
    Completion, MAX_ISO_PACKET_LEN, MAX_ISO_PACKETS, Packet, SETUP_LEN, Transfer, TransferType,
};

use abi::{
    CONNECT, ControlTransfer, DISCONNECT_CLAIM_EXCEPT_DRIVER, DRIVER_NAME, DisconnectClaim,
    GetDriver, InterfaceIoctl, RawUrb, SetInterface,
};
use urb::Urb;

/// Most bytes of descriptors that are read from one device: far more than 255 configurations need
/// in practice, far less than they could claim.
const MAX_DESCRIPTORS: usize = 1 << 20;
/// Idle URBs of each of both sizes kept for reuse.
const POOL: usize = 64;

/// An open USB device. Clones share the file descriptor, which is closed with the last one.
///
/// Closing takes back every URB and every claimed interface; the kernel's own drivers do not come
/// back by that, see [`Device::connect`].
#[derive(Clone)]
pub struct Device {
    inner: Arc<Inner>,
}

/// The descriptor comes first: it is closed, and with that every URB forgotten by the kernel,
/// before the URBs' memory goes.
struct Inner {
    file: File,
    table: Mutex<Table>,
}

/// What the kernel has, by the address it knows it by, and what lies idle.
#[derive(Default)]
struct Table {
    in_flight: HashMap<usize, Urb>,
    addresses: HashMap<u64, usize>,
    idle: Vec<Urb>,
    /// Those with room for packets.
    idle_iso: Vec<Urb>,
}

impl Device {
    /// Opens the device at that bus and address, both as in `/dev/bus/usb/BBB/DDD`, below `dev`
    /// (normally `/dev`).
    ///
    /// # Errors
    /// That of open(2): `ENOENT` when it was unplugged, `EACCES` without the right to write.
    pub fn open(dev: &Path, bus: u8, address: u8) -> io::Result<Self> {
        let path = dev.join(format!("bus/usb/{bus:03}/{address:03}"));
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        Ok(Self {
            inner: Arc::new(Inner {
                file,
                table: Mutex::default(),
            }),
        })
    }

    /// The device descriptor and every configuration descriptor as the kernel cached them, in
    /// their order and in the byte order of the bus. May block.
    ///
    /// # Errors
    /// `ENODEV` when the device is gone.
    pub fn descriptors(&self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; 4096];
        let mut filled = 0;
        while let Some(room) = bytes.get_mut(filled..).filter(|room| !room.is_empty()) {
            match self.inner.file.read_at(room, filled as u64)? {
                0 => break,
                read => filled += read,
            }
            if filled == bytes.len() && filled < MAX_DESCRIPTORS {
                bytes.resize(filled * 2, 0);
            }
        }
        bytes.truncate(filled);
        if cfg!(target_endian = "big") {
            // usbdev_read() gives these four fields of the device descriptor in the CPU's order.
            for field in [2, 8, 10, 12] {
                if let Some(pair) = bytes.get_mut(field..field + 2) {
                    pair.reverse();
                }
            }
        }
        Ok(bytes)
    }

    /// Hands a transfer to the kernel.
    ///
    /// # Errors
    /// The errno of `USBDEVFS_SUBMITURB`: `ENODEV` gone, `ENOENT` no such endpoint in the current
    /// setting, `ENOMEM` above usbfs's memory limit, `EMSGSIZE` for an isochronous packet longer
    /// than the endpoint's, `ENOSPC` without bandwidth on the bus. `EINVAL` also for lengths that do
    /// not fit, `EEXIST` for a key that is in flight.
    pub fn submit(&self, transfer: Transfer) -> Result<(), Errno> {
        let mut table = self.inner.table();
        if table.addresses.contains_key(&transfer.key) {
            return Err(Errno::EEXIST);
        }
        let mut urb = table.take_idle(transfer.kind);
        urb.fill(transfer).map_err(|_| Errno::EINVAL)?;
        let raw = urb.block().as_ptr();
        // SAFETY: `fill` initialised the URB, and its buffer is as long as it says. Both stay at
        // their addresses in the table until the URB is reaped or the file closed.
        match unsafe { abi::submit_urb(self.as_raw_fd(), raw) } {
            Ok(_) => {
                table.addresses.insert(urb.key(), raw as usize);
                table.in_flight.insert(raw as usize, urb);
                Ok(())
            }
            Err(errno) => {
                table.put_idle(urb);
                Err(errno)
            }
        }
    }

    /// Takes back one completed transfer; `None` when there is none now.
    ///
    /// # Errors
    /// `ENODEV` when the device is gone and everything that was completed has been taken back.
    pub fn reap(&self) -> Result<Option<Completion>, Errno> {
        let mut table = self.inner.table();
        let mut raw: *mut c_void = core::ptr::null_mut();
        // SAFETY: the kernel writes one pointer, into the local variable, and what `Urb::finish`
        // describes, into the block and the buffer of a URB that the table holds.
        match unsafe { abi::reap_urb_ndelay(self.as_raw_fd(), &raw mut raw) } {
            Ok(_) => {}
            Err(Errno::EAGAIN) => return Ok(None),
            Err(errno) => return Err(errno),
        }
        let Some(mut urb) = table.in_flight.remove(&(raw as usize)) else {
            return Err(Errno::EFAULT);
        };
        table.addresses.remove(&urb.key());
        // SAFETY: the kernel just gave this URB back and forgot it.
        let completion = unsafe { urb.finish() };
        table.put_idle(urb);
        Ok(Some(completion))
    }

    /// Asks the kernel to give up a transfer and waits until it has; the transfer is still to be
    /// reaped. May block.
    ///
    /// # Errors
    /// `EINVAL` when it is not in flight or already completed.
    pub fn discard(&self, key: u64) -> Result<(), Errno> {
        let block = {
            let table = self.inner.table();
            let address = table.addresses.get(&key).ok_or(Errno::EINVAL)?;
            let urb = table.in_flight.get(address).ok_or(Errno::EINVAL)?;
            Arc::clone(urb.block())
        };
        let raw: *const RawUrb = block.as_ptr();
        // SAFETY: the kernel only compares the address. Holding the block keeps the address from
        // naming another transfer while the call lasts.
        unsafe { abi::discard_urb(self.as_raw_fd(), raw) }.map(drop)
    }

    /// Transfers that the kernel has, completed or not.
    pub fn in_flight(&self) -> usize {
        self.inner.table().in_flight.len()
    }

    /// Takes an interface from whatever kernel driver has it. May block.
    ///
    /// # Errors
    /// `EBUSY` when another program has it through usbfs, `EINVAL` when it does not exist.
    pub fn disconnect_claim(&self, interface: u8) -> Result<(), Errno> {
        let mut claim = DisconnectClaim {
            interface: interface.into(),
            flags: DISCONNECT_CLAIM_EXCEPT_DRIVER,
            driver: [0; DRIVER_NAME],
        };
        for (to, from) in claim.driver.iter_mut().zip(b"usbfs") {
            *to = c_char::from_ne_bytes([*from]);
        }
        // SAFETY: the kernel reads the structure.
        unsafe { abi::disconnect_claim(self.as_raw_fd(), &raw mut claim) }.map(drop)
    }

    /// Takes an interface that no driver has; nothing happens when it is claimed already.
    ///
    /// # Errors
    /// `EBUSY` when a driver or another program has it, `ENOENT` when it does not exist.
    pub fn claim(&self, interface: u8) -> Result<(), Errno> {
        let mut interface = c_uint::from(interface);
        // SAFETY: the kernel reads the number.
        unsafe { abi::claim_interface(self.as_raw_fd(), &raw mut interface) }.map(drop)
    }

    /// Gives an interface up, to no driver, and takes its transfers back. May block.
    ///
    /// # Errors
    /// `EINVAL` when it was not claimed.
    pub fn release(&self, interface: u8) -> Result<(), Errno> {
        let mut interface = c_uint::from(interface);
        // SAFETY: the kernel reads the number.
        unsafe { abi::release_interface(self.as_raw_fd(), &raw mut interface) }.map(drop)
    }

    /// Lets the kernel look for a driver for an interface without one. May block.
    ///
    /// # Errors
    /// `EBUSY` when it has a driver.
    pub fn connect(&self, interface: u8) -> Result<(), Errno> {
        let mut request = InterfaceIoctl {
            interface: interface.into(),
            // The field is an int, the number of `_IO('U', 23)` small on every architecture's
            // low half; the kernel compares it as the same 32 bits.
            #[expect(clippy::cast_possible_truncation, reason = "the kernel takes 32 bits")]
            code: CONNECT as i32,
            data: core::ptr::null_mut(),
        };
        // SAFETY: the kernel reads the structure, and CONNECT takes no data.
        unsafe { abi::driver_ioctl(self.as_raw_fd(), &raw mut request) }.map(drop)
    }

    /// The name of the driver that has an interface, `None` without one.
    ///
    /// # Errors
    /// `EINVAL` or `ENOENT` when the interface does not exist.
    pub fn driver(&self, interface: u8) -> Result<Option<String>, Errno> {
        let mut request = GetDriver {
            interface: interface.into(),
            driver: [0; DRIVER_NAME],
        };
        let pointer = &raw mut request;
        // SAFETY: the kernel writes a NUL-terminated name into the structure.
        match unsafe { abi::get_driver(self.as_raw_fd(), pointer) } {
            Ok(_) => {}
            Err(Errno::ENODATA) => return Ok(None),
            Err(errno) => return Err(errno),
        }
        let name = request
            .driver
            .iter()
            .map(|byte| byte.to_ne_bytes()[0])
            .take_while(|byte| *byte != 0)
            .collect::<Vec<u8>>();
        Ok(Some(String::from_utf8_lossy(&name).into_owned()))
    }

    /// Chooses a configuration; the one that is active already is set again, which resets toggles
    /// and alternate settings. May block.
    ///
    /// # Errors
    /// `EBUSY` while any interface has a driver or is claimed, `EINVAL` when there is none of that
    /// number.
    pub fn set_configuration(&self, value: u8) -> Result<(), Errno> {
        let mut value = c_uint::from(value);
        // SAFETY: the kernel reads the number.
        unsafe { abi::set_configuration(self.as_raw_fd(), &raw mut value) }.map(drop)
    }

    /// Chooses an alternate setting of a claimed interface and takes its transfers back. May block.
    ///
    /// # Errors
    /// `EINVAL` when there is none of that number, or what the device answered.
    pub fn set_interface(&self, interface: u8, alternate: u8) -> Result<(), Errno> {
        let mut request = SetInterface {
            interface: interface.into(),
            altsetting: alternate.into(),
        };
        // SAFETY: the kernel reads the structure.
        unsafe { abi::set_interface(self.as_raw_fd(), &raw mut request) }.map(drop)
    }

    /// Ends the halt of an endpoint and resets its data toggle on both sides. May block.
    ///
    /// # Errors
    /// `ENOENT` when there is no such endpoint, or what the device answered.
    pub fn clear_halt(&self, endpoint: u8) -> Result<(), Errno> {
        let mut endpoint = c_uint::from(endpoint);
        // SAFETY: the kernel reads the number.
        unsafe { abi::clear_halt(self.as_raw_fd(), &raw mut endpoint) }.map(drop)
    }

    /// Resets the device's port and restores its configuration. Interfaces that are claimed then
    /// are lost: release them before and claim them afterwards. May block.
    ///
    /// # Errors
    /// `ENODEV` when the device did not come back as it was.
    pub fn reset(&self) -> Result<(), Errno> {
        // SAFETY: no argument.
        unsafe { abi::reset(self.as_raw_fd()) }.map(drop)
    }

    /// One control transfer on endpoint 0, `data` being sent or filled by the direction in
    /// `setup`; returns the bytes moved. May block, `timeout_ms` long (0: for ever).
    ///
    /// # Errors
    /// `EPIPE` for a stall, `ETIMEDOUT`, `EINVAL` when `data` is not as long as the setup packet's
    /// wLength.
    pub fn control(
        &self,
        setup: [u8; SETUP_LEN],
        data: &mut [u8],
        timeout_ms: u32,
    ) -> Result<usize, Errno> {
        let [request_type, request, value @ .., _, _, _, _] = setup;
        let [_, _, _, _, index0, index1, length0, length1] = setup;
        let length = u16::from_le_bytes([length0, length1]);
        if usize::from(length) != data.len() {
            return Err(Errno::EINVAL);
        }
        let mut transfer = ControlTransfer {
            request_type,
            request,
            value: u16::from_le_bytes(value),
            index: u16::from_le_bytes([index0, index1]),
            length,
            timeout_ms,
            data: data.as_mut_ptr().cast(),
        };
        // SAFETY: `data` is writable and exactly as long as the transfer says.
        let moved = unsafe { abi::control(self.as_raw_fd(), &raw mut transfer) }?;
        Ok(usize::try_from(moved).unwrap_or(0))
    }

    /// `USBDEVFS_CAP_*` bits.
    ///
    /// # Errors
    /// `ENODEV` when the device is gone.
    pub fn capabilities(&self) -> Result<u32, Errno> {
        let mut bits = 0;
        // SAFETY: the kernel writes one 32-bit number.
        unsafe { abi::get_capabilities(self.as_raw_fd(), &raw mut bits) }?;
        Ok(bits)
    }

    /// `enum usb_device_speed`: 1 low, 2 full, 3 high, 4 wireless, 5 super, 6 super plus.
    ///
    /// # Errors
    /// `ENODEV` when the device is gone.
    pub fn speed(&self) -> Result<u8, Errno> {
        // SAFETY: no argument.
        let speed = unsafe { abi::get_speed(self.as_raw_fd()) }?;
        Ok(u8::try_from(speed).unwrap_or(0))
    }
}

impl AsFd for Device {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.file.as_fd()
    }
}

impl AsRawFd for Device {
    fn as_raw_fd(&self) -> RawFd {
        self.inner.file.as_raw_fd()
    }
}

impl Inner {
    fn table(&self) -> MutexGuard<'_, Table> {
        // Nothing between taking and giving back the lock can panic half-way through a change.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn take_idle(&mut self, kind: TransferType) -> Urb {
        let (idle, packets) = match kind {
            TransferType::Isochronous => (&mut self.idle_iso, MAX_ISO_PACKETS),
            TransferType::Interrupt | TransferType::Control | TransferType::Bulk => {
                (&mut self.idle, 0)
            }
        };
        idle.pop().unwrap_or_else(|| Urb::new(packets))
    }

    fn put_idle(&mut self, mut urb: Urb) {
        let idle = if urb.is_isochronous() {
            &mut self.idle_iso
        } else {
            &mut self.idle
        };
        if idle.len() < POOL && urb.is_reusable() {
            idle.push(urb);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A plain file in the place of a device: every ioctl of usbfs fails on it.
    fn no_device() -> (tempfile::TempDir, Device) {
        let dev = tempfile::tempdir().unwrap();
        let bus = dev.path().join("bus/usb/001");
        std::fs::create_dir_all(&bus).unwrap();
        std::fs::write(bus.join("002"), [7; 5000]).unwrap();
        let device = Device::open(dev.path(), 1, 2).unwrap();
        (dev, device)
    }

    #[test]
    fn a_missing_device_is_not_found() {
        let (dev, _) = no_device();
        let error = Device::open(dev.path(), 1, 3).err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_refused_transfer_is_not_in_flight_and_its_memory_is_used_again() {
        let (_dev, device) = no_device();
        let bulk = Transfer {
            key: 1,
            endpoint: 0x81,
            kind: TransferType::Bulk,
            buffer: Vec::new(),
            receive: 512,
            packets: Vec::new(),
            short_not_ok: false,
            zero_packet: false,
        };
        let iso = Transfer {
            kind: TransferType::Isochronous,
            packets: vec![Packet::new(9); MAX_ISO_PACKETS],
            ..bulk.clone()
        };
        for transfer in [&bulk, &iso, &bulk, &iso] {
            assert_eq!(device.submit(transfer.clone()), Err(Errno::ENOTTY));
            assert_eq!(device.discard(1), Err(Errno::EINVAL));
        }
        assert_eq!(device.in_flight(), 0);
        let table = device.inner.table();
        assert_eq!((table.idle.len(), table.idle_iso.len()), (1, 1));
        drop(table);
        assert_eq!(device.reap(), Err(Errno::ENOTTY));
    }

    #[test]
    fn descriptors_longer_than_the_first_guess_are_read_whole() {
        let (_dev, device) = no_device();
        assert_eq!(device.descriptors().unwrap().len(), 5000);
    }

    #[test]
    fn a_control_transfer_whose_data_is_not_as_long_as_it_says_is_refused() {
        let (_dev, device) = no_device();
        let setup = [0x80, 6, 0, 1, 0, 0, 18, 0];
        assert_eq!(device.control(setup, &mut [0; 17], 0), Err(Errno::EINVAL));
        assert_eq!(device.control(setup, &mut [0; 18], 0), Err(Errno::ENOTTY));
    }
}
