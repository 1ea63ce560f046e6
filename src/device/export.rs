//! The export policy: which of this machine's devices are offered at all. Default: none.

use serde::{Deserialize, Serialize};

use super::id::{Names, Pattern};

/// The most entries a policy may have (profile 18).
pub const MAX_EXPORTS: usize = 1024;

/// The devices that the owner of this machine decided to offer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExportPolicy {
    /// One entry per decision, in the order they were made.
    #[serde(default, rename = "export", skip_serializing_if = "Vec::is_empty")]
    exports: Vec<Export>,
}

/// One decision to offer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Export {
    /// Which devices.
    pub device: Pattern,
    /// Offer it although it is in use by this machine (a mounted disk, the console keyboard).
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub force: bool,
}

/// The policy is at its bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the export policy already has {MAX_EXPORTS} entries")]
pub struct PolicyFull;

impl ExportPolicy {
    /// Every entry.
    pub fn entries(&self) -> &[Export] {
        &self.exports
    }

    /// True when some entry names the device.
    pub fn offers(&self, device: Names<'_>) -> bool {
        self.exports
            .iter()
            .any(|export| export.device.covers(device))
    }

    /// True when some entry that names the device was forced.
    pub fn forces(&self, device: Names<'_>) -> bool {
        self.exports
            .iter()
            .any(|export| export.force && export.device.covers(device))
    }

    /// Adds a decision or replaces the one for the same pattern; false when nothing changed.
    ///
    /// # Errors
    /// [`PolicyFull`] at [`MAX_EXPORTS`] entries.
    pub fn add(&mut self, export: Export) -> Result<bool, PolicyFull> {
        if let Some(old) = self
            .exports
            .iter_mut()
            .find(|old| old.device == export.device)
        {
            let changed = *old != export;
            *old = export;
            return Ok(changed);
        }
        if self.exports.len() >= MAX_EXPORTS {
            return Err(PolicyFull);
        }
        self.exports.push(export);
        Ok(true)
    }

    /// Takes back the decision for exactly this pattern; false when there was none.
    pub fn remove(&mut self, device: &Pattern) -> bool {
        let before = self.exports.len();
        self.exports.retain(|export| export.device != *device);
        self.exports.len() != before
    }

    /// Everything that still offers this device after one of its entries was removed.
    pub fn covering(&self, device: Names<'_>) -> Vec<&Pattern> {
        self.exports
            .iter()
            .map(|export| &export.device)
            .filter(|pattern| pattern.covers(device))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::id::DeviceId;
    use super::*;

    fn export(pattern: &str, force: bool) -> Export {
        Export {
            device: pattern.parse().unwrap(),
            force,
        }
    }

    fn id(text: &str) -> DeviceId {
        text.parse().unwrap()
    }

    #[test]
    fn nothing_is_offered_until_named() {
        let mut policy = ExportPolicy::default();
        assert!(!policy.offers((&id("usb:1:2")).into()));
        assert_eq!(policy.add(export("usb:1:2", false)), Ok(true));
        assert!(policy.offers((&id("usb:1:2")).into()));
        assert!(!policy.offers((&id("usb:1:2:3")).into()));
        assert!(policy.remove(&"usb:1:2".parse().unwrap()));
        assert!(!policy.offers((&id("usb:1:2")).into()));
    }

    #[test]
    fn naming_a_device_again_changes_only_the_force() {
        let mut policy = ExportPolicy::default();
        policy.add(export("usb:1:2", false)).unwrap();
        assert_eq!(policy.add(export("usb:1:2", false)), Ok(false));
        assert!(!policy.forces((&id("usb:1:2")).into()));
        assert_eq!(policy.add(export("usb:1:2", true)), Ok(true));
        assert!(policy.forces((&id("usb:1:2")).into()));
        assert_eq!(policy.entries().len(), 1);
    }

    #[test]
    fn a_pattern_that_still_covers_a_device_is_told() {
        let mut policy = ExportPolicy::default();
        policy.add(export("usb:*", false)).unwrap();
        policy.add(export("usb:1:2", false)).unwrap();
        policy.remove(&"usb:1:2".parse().unwrap());
        assert!(policy.offers((&id("usb:1:2")).into()));
        assert_eq!(policy.covering((&id("usb:1:2")).into()).len(), 1);
    }

    #[test]
    fn a_port_offers_whatever_is_plugged_in_there() {
        let mut policy = ExportPolicy::default();
        policy.add(export("usb@1-4", true)).unwrap();
        let (device, port) = (id("usb:1:2"), id("usb@1-4"));
        let names = Names {
            id: &device,
            port: Some(&port),
            peer: None,
        };
        assert!(policy.offers(names) && policy.forces(names));
        assert!(!policy.offers((&device).into()));
        assert_eq!(policy.covering(names).len(), 1);
    }

    #[test]
    fn the_policy_is_bounded() {
        let mut policy = ExportPolicy::default();
        for n in 0..MAX_EXPORTS {
            policy.add(export(&format!("usb:{n}"), false)).unwrap();
        }
        assert_eq!(policy.add(export("usb:more", false)), Err(PolicyFull));
        assert_eq!(policy.add(export("usb:0", true)), Ok(true));
    }
}
