//! The part of a device that belongs to one stream, from claiming it to giving it back.

use std::collections::BTreeMap;
use std::sync::Arc;

use nix::errno::Errno;
use tracing::warn;

use crate::bus::Refused;
use crate::bus::usb::descriptor::{CLASS_PRINTER, Configuration, Descriptors, Endpoint, Setting};
use crate::bus::usb::hardware::UsbPort;
use crate::wire::status::{Status, sub};

/// Milliseconds to wait for the device's BOS descriptor.
const BOS_TIMEOUT_MS: u32 = 1000;
/// From this version of USB on a device has a BOS descriptor (USB 3.2, 9.2.6.6).
const BOS_SINCE: u16 = 0x0201;

/// What a peer has of a device. Giving it back happens by itself when this is dropped.
///
/// Methods that take `&mut self` may wait for the hardware.
pub(super) struct Held {
    port: Arc<dyn UsbPort>,
    descriptors: Descriptors,
    /// In the kernel's numbering.
    speed: u8,
    /// The active configuration, 0 for none.
    configuration: u8,
    /// The one that was active when it was claimed.
    original: u8,
    /// The interfaces that the peer asked for; `None` for all.
    wanted: Option<Vec<u8>>,
    claimed: Vec<u8>,
    /// Alternate settings other than 0.
    alternates: BTreeMap<u8, u8>,
    /// Nothing but reading of descriptors happened since the configuration was last set, so that
    /// setting it again would change nothing.
    pristine: bool,
    /// Everything that was wanted was claimed once, so the peer may have changed the device.
    attached: bool,
    given_back: bool,
}

/// What claiming a device told about it.
pub(super) struct Claimed {
    pub(super) held: Held,
    /// Device descriptor, configuration descriptors, BOS.
    pub(super) raw: Vec<u8>,
    /// In the kernel's numbering.
    pub(super) speed: u8,
}

impl Held {
    /// Takes the wanted interfaces of a device, all of them for `None`, away from their kernel
    /// drivers. May wait.
    pub(super) fn claim(
        port: Arc<dyn UsbPort>,
        wanted: Option<Vec<u8>>,
    ) -> Result<Claimed, Refused> {
        let mut raw = port.descriptors().map_err(|error| {
            let errno = error.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
            Refused::io("cannot read the descriptors", errno)
        })?;
        let descriptors = Descriptors::parse(&raw).map_err(|error| {
            Refused::new(Status::InternalError, sub::DEVICE_IO, error.to_string())
        })?;
        let configuration = port
            .active_configuration()
            .map_err(|errno| Refused::io("cannot read the configuration", errno))?;
        let speed = port
            .speed()
            .map_err(|errno| Refused::io("cannot read the speed", errno))?;
        if descriptors.usb >= BOS_SINCE {
            raw.extend(read_bos(&*port));
        }
        let mut held = Self {
            port,
            descriptors,
            speed,
            configuration,
            original: configuration,
            wanted,
            claimed: Vec::new(),
            alternates: BTreeMap::new(),
            pristine: false,
            attached: false,
            given_back: false,
        };
        held.check_wanted()?;
        held.claim_all().map_err(|(interface, errno)| match errno {
            Errno::EBUSY => Refused::new(
                Status::ServiceUnavailable,
                sub::BUSY,
                format!("another program on the owner's side uses interface {interface}"),
            ),
            errno => Refused::io("cannot claim an interface", errno),
        })?;
        held.attached = true;
        Ok(Claimed { held, raw, speed })
    }

    fn check_wanted(&self) -> Result<(), Refused> {
        let existing = self
            .active()
            .map(Configuration::interfaces)
            .unwrap_or_default();
        match self.wanted.as_deref() {
            Some([]) => Err(Refused::bad("ifs is empty")),
            Some(wanted) => match wanted.iter().find(|number| !existing.contains(number)) {
                Some(number) => Err(Refused::bad(format!("there is no interface {number}"))),
                None => Ok(()),
            },
            None => Ok(()),
        }
    }

    /// The port, for calls that concern no state of this.
    pub(super) fn port(&self) -> &Arc<dyn UsbPort> {
        &self.port
    }

    /// In the kernel's numbering.
    pub(super) const fn speed(&self) -> u8 {
        self.speed
    }

    /// The active configuration's value, 0 for none.
    pub(super) const fn configuration(&self) -> u8 {
        self.configuration
    }

    /// True when the peer has every interface, so that changing the whole device hurts nobody.
    pub(super) const fn is_whole(&self) -> bool {
        self.wanted.is_none()
    }

    /// True when setting the active configuration again would change nothing.
    pub(super) const fn is_pristine(&self) -> bool {
        self.pristine
    }

    /// Something was done to the device that setting its configuration again would undo.
    pub(super) const fn touch(&mut self) {
        self.pristine = false;
    }

    /// Whether the device has such a configuration.
    pub(super) fn has_configuration(&self, value: u8) -> bool {
        self.descriptors.configuration(value).is_some()
    }

    /// Whether the peer has this interface.
    pub(super) fn has_interface(&self, interface: u8) -> bool {
        self.claimed.contains(&interface)
    }

    /// Whether the peer has this interface and it is a printer's in its current setting.
    pub(super) fn has_printer(&self, interface: u8) -> bool {
        self.current(interface)
            .is_some_and(|setting| setting.class[0] == CLASS_PRINTER)
    }

    /// Whether the peer has this interface, with such an alternate setting.
    pub(super) fn has_setting(&self, interface: u8, alternate: u8) -> bool {
        self.has_interface(interface)
            && self
                .active()
                .is_some_and(|active| active.setting(interface, alternate).is_some())
    }

    /// An endpoint that the peer may use now: of a claimed interface in its current setting.
    pub(super) fn endpoint(&self, address: u8) -> Option<&Endpoint> {
        let mut settings = self.active()?.settings.iter();
        settings.find_map(|setting| {
            setting
                .endpoint(address)
                .filter(|_| self.is_current(setting) && self.has_interface(setting.interface))
        })
    }

    /// Whether any setting of a claimed interface has an endpoint of that number, in whatever
    /// direction: many drivers leave the direction out of a request's wIndex.
    pub(super) fn has_endpoint_number(&self, number: u8) -> bool {
        self.active().is_some_and(|active| {
            active
                .settings
                .iter()
                .filter(|setting| self.has_interface(setting.interface))
                .flat_map(|setting| &setting.endpoints)
                .any(|endpoint| endpoint.address & 0x0f == number & 0x0f)
        })
    }

    /// The interface whose current setting has that endpoint, if the peer has it.
    pub(super) fn interface_of(&self, address: u8) -> Option<u8> {
        let has = |interface: &&u8| {
            self.current(**interface)
                .is_some_and(|setting| setting.endpoint(address).is_some())
        };
        self.claimed.iter().find(has).copied()
    }

    fn active(&self) -> Option<&Configuration> {
        self.descriptors.configuration(self.configuration)
    }

    fn current(&self, interface: u8) -> Option<&Setting> {
        if !self.has_interface(interface) {
            return None;
        }
        let mut settings = self.active()?.settings.iter();
        settings.find(|setting| setting.interface == interface && self.is_current(setting))
    }

    fn is_current(&self, setting: &Setting) -> bool {
        let alternate = self.alternates.get(&setting.interface).copied();
        setting.alternate == alternate.unwrap_or(0)
    }

    /// Chooses a configuration. The kernel refuses that while an interface is claimed, so they are
    /// let go and taken again. Transfers on them end with -2.
    pub(super) fn set_configuration(&mut self, value: u8) -> Result<(), Errno> {
        for interface in &self.claimed {
            // A driver that has come to one of them would be in the way.
            let _ = self.take(*interface);
        }
        self.release_all();
        let result = self.port.set_configuration(value);
        if result.is_ok() {
            self.configuration = value;
            self.pristine = true;
        }
        let claimed = self.claim_all().map_err(|(_, errno)| errno);
        result.and(claimed)
    }

    /// Chooses an alternate setting of a claimed interface. Transfers on it end with -2.
    pub(super) fn set_interface(&mut self, interface: u8, alternate: u8) -> Result<(), Errno> {
        self.pristine = false;
        self.take(interface)?;
        self.port.set_interface(interface, alternate)?;
        self.alternates.insert(interface, alternate);
        Ok(())
    }

    /// Ends the halt of an endpoint.
    pub(super) fn clear_halt(&self, endpoint: u8) -> Result<(), Errno> {
        if let Some(interface) = self.interface_of(endpoint) {
            self.take(interface)?;
        }
        self.port.clear_halt(endpoint)
    }

    /// Resets the device. A claimed interface would be lost to the reset and then bound to its
    /// kernel driver again, so all are let go and taken again. Transfers on them end with -2.
    pub(super) fn reset(&mut self) -> Result<(), Errno> {
        self.release_all();
        let result = self.port.reset();
        self.pristine = result.is_ok();
        let claimed = self.claim_all().map_err(|(_, errno)| errno);
        result.and(claimed)
    }

    /// Takes the interfaces again that somebody else has taken, and chooses the settings again that
    /// the peer believes in. One that cannot be had is no longer the peer's.
    pub(super) fn reclaim(&mut self) -> Result<(), Errno> {
        self.pristine = false;
        let mut result = Ok(());
        for interface in core::mem::take(&mut self.claimed) {
            let taken = self.take(interface).and_then(|()| {
                self.claimed.push(interface);
                match self.alternates.get(&interface) {
                    Some(alternate) => self.port.set_interface(interface, *alternate),
                    None => Ok(()),
                }
            });
            if taken.is_err() {
                self.alternates.remove(&interface);
            }
            result = result.and(taken);
        }
        result
    }

    /// Makes sure that an interface of ours still is: usbfs would claim it by itself where it can,
    /// but not without a complaint.
    fn take(&self, interface: u8) -> Result<(), Errno> {
        match self.port.claim(interface) {
            Err(Errno::EBUSY) => self.port.disconnect_claim(interface),
            result => result,
        }
    }

    fn claim_all(&mut self) -> Result<(), (u8, Errno)> {
        let existing = self
            .active()
            .map(Configuration::interfaces)
            .unwrap_or_default();
        let mut first_error = Ok(());
        for interface in existing {
            if self
                .wanted
                .as_ref()
                .is_some_and(|wanted| !wanted.contains(&interface))
            {
                continue;
            }
            match self.port.disconnect_claim(interface) {
                Ok(()) => self.claimed.push(interface),
                Err(errno) => first_error = first_error.and(Err((interface, errno))),
            }
        }
        first_error
    }

    /// Releasing an interface puts its alternate setting back to 0.
    fn release_all(&mut self) {
        self.alternates.clear();
        for interface in self.claimed.drain(..) {
            if let Err(errno) = self.port.release(interface) {
                warn!(interface, %errno, "cannot release a USB interface");
            }
        }
    }

    /// The device is gone: there is nothing to give back.
    pub(super) const fn forget(&mut self) {
        self.given_back = true;
    }

    /// Gives the device back as it was: transfers ended, interfaces released, the configuration
    /// restored, the device reset so that nothing of the peer's stays in it (profile 17.5), and
    /// the interfaces with their kernel drivers. Only the interfaces, when the host kept others.
    pub(super) fn give_back(&mut self, in_flight: &[u64]) {
        if core::mem::replace(&mut self.given_back, true) {
            return;
        }
        // The last first, so that none is started by the end of the one before it.
        for key in in_flight.iter().rev() {
            // EINVAL: it finished meanwhile.
            let _ = self.port.discard(*key);
        }
        let mut interfaces = self.claimed.clone();
        self.release_all();
        if self.is_whole() && self.attached {
            if self.configuration != self.original {
                match self.port.set_configuration(self.original) {
                    Ok(()) => self.configuration = self.original,
                    Err(errno) => warn!(%errno, "cannot restore the USB configuration"),
                }
            }
            if let Err(errno) = self.port.reset() {
                warn!(%errno, "cannot reset the USB device");
            }
            interfaces = self
                .active()
                .map(Configuration::interfaces)
                .unwrap_or_default();
        }
        for interface in interfaces {
            match self.port.connect(interface) {
                // EBUSY: the driver of a neighbour took it along, or it was there already.
                Ok(()) | Err(Errno::EBUSY) => {}
                Err(errno) => warn!(interface, %errno, "no kernel driver came back"),
            }
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.give_back(&[]);
    }
}

/// The BOS descriptor and what belongs to it; nothing when the device does not give it.
fn read_bos(port: &dyn UsbPort) -> Vec<u8> {
    const BOS: u8 = 15;
    let read = |length: u16| {
        let [length0, length1] = length.to_le_bytes();
        let mut data = vec![0; usize::from(length)];
        let setup = [0x80, 6, 0, BOS, 0, 0, length0, length1];
        let read = port.control(setup, &mut data, BOS_TIMEOUT_MS).unwrap_or(0);
        data.truncate(read);
        data
    };
    let header = read(5);
    let Some(([_, BOS, total0, total1, _], _)) = header.split_first_chunk::<5>() else {
        return Vec::new();
    };
    let total = u16::from_le_bytes([*total0, *total1]);
    let whole = read(total);
    if total >= 5 && whole.len() == usize::from(total) {
        whole
    } else {
        Vec::new()
    }
}
