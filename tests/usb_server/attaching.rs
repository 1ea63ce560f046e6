//! Who gets a device, and what of it.

use myclerk::bus::usb::fake::{Act, DESCRIPTORS, Fake};
use myclerk::bus::usb::op::{AttachResponse, Speed};
use myclerk::bus::usb::server::End;
use myclerk::wire::opcode::Opcode;
use myclerk::wire::status::Status;

use crate::bench::{ATTACH, Bench, Setting, local};

#[test]
fn attaching_claims_every_interface_and_tells_the_descriptors() {
    local(async {
        let mut bench = Bench::attach().await;
        let response = AttachResponse::decode(&bench.answer(ATTACH).await.payload).unwrap();
        assert_eq!(response.desc, DESCRIPTORS);
        assert_eq!((response.spd, response.cfg), (Speed::High, 1));
        assert_eq!(response.devno, 3 << 16 | 7);
        assert_eq!(bench.device.claimed(), [0, 1]);
        assert_eq!(bench.device.driven(), Vec::<u8>::new());
        bench.detach().await;
        assert_eq!(bench.device.driven(), [0, 1]);
        assert_eq!(bench.end().await, End::Detached);
    });
}

#[test]
fn a_device_that_the_machine_uses_is_refused_unless_forced() {
    local(async {
        let mut setting = Setting::default();
        let class = setting.sys.path().join("sys/devices/usb3/3-1/bDeviceClass");
        std::fs::create_dir_all(class.parent().unwrap()).unwrap();
        std::fs::write(class, "09\n").unwrap();
        let bench = Bench::start(Fake::new(), &setting);
        let answer = bench.answer(ATTACH).await;
        assert_eq!(
            answer.error(),
            (Status::ServiceUnavailable, "busy".to_owned())
        );
        assert_eq!(bench.device.acts(), []);
        assert!(matches!(bench.end().await, End::Refused(_)));
        setting.force = true;
        Bench::attach_with(Fake::new(), &setting).await;
    });
}

#[test]
fn an_interface_of_another_program_refuses_the_whole_device_and_disturbs_nobody() {
    local(async {
        let device = Fake::new();
        device.give_to_program(1);
        let bench = Bench::start(device.clone(), &Setting::default());
        let answer = bench.answer(ATTACH).await;
        assert_eq!(
            answer.error(),
            (Status::ServiceUnavailable, "busy".to_owned())
        );
        assert!(matches!(bench.end().await, End::Refused(_)));
        assert!(!device.acts().contains(&Act::Reset));
        assert_eq!(device.driven(), [0, 1]);
    });
}

#[test]
fn a_device_that_is_not_there_any_more_is_refused_as_gone() {
    local(async {
        let device = Fake::new();
        device.unplug();
        let bench = Bench::start(device, &Setting::default());
        let answer = bench.answer(ATTACH).await;
        assert_eq!(
            answer.error(),
            (Status::ServiceUnavailable, "device-gone".to_owned())
        );
    });
}

#[test]
fn interfaces_that_do_not_exist_cannot_be_asked_for() {
    local(async {
        for ifs in [vec![], vec![2], vec![0, 255]] {
            let setting = Setting {
                ifs: Some(ifs),
                ..Setting::default()
            };
            let bench = Bench::start(Fake::new(), &setting);
            let answer = bench.answer(ATTACH).await;
            assert_eq!(
                answer.error(),
                (Status::BadRequest, "bad-payload".to_owned())
            );
            assert_eq!(bench.device.driven(), [0, 1]);
        }
    });
}

#[test]
fn a_part_of_a_device_can_be_attached_and_the_rest_is_left_alone() {
    local(async {
        let setting = Setting {
            ifs: Some(vec![1]),
            ..Setting::default()
        };
        let mut bench = Bench::attach_with(Fake::new(), &setting).await;
        assert_eq!(
            (bench.device.claimed(), bench.device.driven()),
            (vec![1], vec![0])
        );
        let refused = [
            bench.request(Opcode::UsbReset, Vec::new()),
            bench.set_configuration(2),
            bench.set_interface(0, 0),
            bench.bulk(0x82, 4, &[]),
            bench.clear_halt(0x82),
            bench.control([0x82, 0, 0, 0, 0x82, 0, 2, 0], &[]),
            bench.control([0xc1, 1, 0, 0, 0, 0, 1, 0], &[]),
        ];
        for corr in refused {
            assert_eq!(
                bench.answer(corr).await.status,
                Status::BadRequest,
                "{corr}"
            );
        }
        let same = bench.control([0x00, 9, 1, 0, 0, 0, 0, 0], &[]);
        assert_eq!(bench.transfer(same).await, (0, 0, vec![]));
        bench.detach().await;
        assert!(!bench.device.acts().contains(&Act::Reset));
        assert_eq!(bench.device.driven(), [0, 1]);
        bench.end().await;
    });
}
