//! What devices say of themselves.

use std::collections::BTreeSet;

use myclerk::bus::usb::descriptor::{
    Configuration, Descriptors, MAX_CONFIGURATIONS, MAX_ENDPOINTS, MAX_INTERFACES, MAX_SETTINGS,
    Setting,
};
use myclerk::bus::usb::enumerate;

use super::kernel::Kernel;
use super::rig::{Rig, run};

/// The descriptors of a device, read by the parser, by the list of devices, and by a client half
/// that a server sends them to.
///
/// # Panics
/// When more is found than a device can have, or what was found cannot be found again.
pub fn descriptors(data: &[u8]) {
    let Ok(device) = Descriptors::parse(data) else {
        assert_eq!(enumerate::settings(data, 1), None);
        return;
    };
    assert!(device.configurations.len() <= MAX_CONFIGURATIONS);
    for configuration in &device.configurations {
        check(configuration);
        let value = configuration.value;
        let first = device.configuration(value).expect("what was found");
        let listed = enumerate::settings(data, value).expect("an active configuration");
        assert_eq!(
            listed.len(),
            first.settings.len().min(enumerate::MAX_LISTED)
        );
    }
    run(async {
        let rig = Rig::new(data, Kernel::default()).expect("a device descriptor");
        rig.end().await;
    });
}

fn check(configuration: &Configuration) {
    let interfaces = configuration.interfaces();
    assert!(interfaces.len() <= MAX_INTERFACES);
    assert!(configuration.settings.len() <= MAX_INTERFACES * MAX_SETTINGS);
    let mut names = BTreeSet::new();
    for setting in &configuration.settings {
        assert!(names.insert((setting.interface, setting.alternate)));
        assert!(interfaces.contains(&setting.interface));
        let found = configuration.setting(setting.interface, setting.alternate);
        assert_eq!(found, Some(setting));
        check_setting(setting);
    }
}

fn check_setting(setting: &Setting) {
    assert!(setting.endpoints.len() <= MAX_ENDPOINTS);
    for endpoint in &setting.endpoints {
        assert!(endpoint.address & 0x70 == 0 && endpoint.address & 0x0f != 0);
        assert_eq!(setting.endpoint(endpoint.address), Some(endpoint));
    }
}
