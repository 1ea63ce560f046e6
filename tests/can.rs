//! Both halves of CAN in one thread, over a session and on interfaces that are played.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[path = "can/bridge.rs"]
mod bridge;
#[path = "can/outage.rs"]
mod outage;
#[path = "can/owner.rs"]
mod owner;

use bridge::{Bridge, frame, frames, local, options};
use myclerk::bus::can::hardware::CanHost;
use myclerk::bus::{AttachError, Ended, Wish};
use myclerk::kernel::can::{BusState, Frame};
use myclerk::wire::status::Status;
use nix::errno::Errno;

#[test]
fn frames_cross_both_ways_whole_and_in_order() {
    local(async {
        let bridge = Bridge::new();
        let (_, local) = bridge.attach(Wish::default()).await;
        assert_eq!(local.handle.files(), ["mc-can0"]);
        let (there, here) = (bridge.on_bus(), bridge.program("mc-can0"));
        for id in 0..1500 {
            there.send(frame(id)).await.unwrap();
            here.send(frame(id)).await.unwrap();
            if id % 500 == 0 {
                tokio::task::yield_now().await;
            }
        }
        let wanted: Vec<Frame> = (0..1500).map(frame).collect();
        assert_eq!(frames(&here, 1500).await, wanted);
        assert_eq!(frames(&there, 1500).await, wanted);
    });
}

#[test]
fn every_kind_of_frame_arrives_as_it_was_sent() {
    local(async {
        let bridge = Bridge::new();
        bridge.owner.change("can0", |link| link.mtu = 72);
        bridge.owner.change("far", |link| link.mtu = 72);
        bridge.attach(Wish::default()).await;
        let (there, here) = (bridge.on_bus(), bridge.program("mc-can0"));
        let all = [
            Frame::new(0x1ABC_DEF0 | Frame::EXTENDED, 0, &[1; 8]).unwrap(),
            Frame::new(0x123 | Frame::REMOTE, 0, &[0; 5]).unwrap(),
            Frame::new(0x7FF, Frame::FD | Frame::BRS | Frame::ESI, &[7; 64]).unwrap(),
            Frame::new(0, 0, &[]).unwrap(),
        ];
        for frame in all {
            there.send(frame).await.unwrap();
            here.send(frame).await.unwrap();
        }
        assert_eq!(frames(&here, all.len()).await, all);
        assert_eq!(frames(&there, all.len()).await, all);
    });
}

#[test]
fn an_interface_is_as_long_as_the_remote_ones_frames() {
    local(async {
        let bridge = Bridge::new();
        bridge.attach(Wish::default()).await;
        assert_eq!(bridge.client.find("mc-can0").unwrap().mtu, 16);
        let bridge = Bridge::new();
        bridge.owner.change("can0", |link| link.mtu = 72);
        bridge.attach(Wish::default()).await;
        assert_eq!(bridge.client.find("mc-can0").unwrap().mtu, 72);
    });
}

#[test]
fn clients_of_one_bus_hear_each_other_and_nobody_hears_itself() {
    local(async {
        let bridge = Bridge::new();
        let other = bridge.another_client();
        bridge.attach(Wish::default()).await;
        other.attach(Wish::default()).await;
        let (one, two) = (bridge.program("mc-can0"), other.program("mc-can0"));
        one.send(frame(1)).await.unwrap();
        assert_eq!(frames(&two, 1).await, [frame(1)]);
        two.send(frame(2)).await.unwrap();
        assert_eq!(frames(&one, 1).await, [frame(2)]);
        assert_eq!(two.arrived(), []);
    });
}

#[test]
fn own_frames_come_back_only_when_asked_for() {
    local(async {
        let bridge = Bridge::new();
        bridge.attach(options(&[("own", "true")])).await;
        let here = bridge.program("mc-can0");
        here.send(frame(1)).await.unwrap();
        assert_eq!(frames(&here, 1).await, [frame(1)]);
    });
}

#[test]
fn error_frames_come_only_when_asked_for_and_never_go_back() {
    local(async {
        let error = Frame::new(Frame::ERROR | 0x40, 0, &[0; 8]).unwrap();
        for asked in ["true", "false"] {
            let bridge = Bridge::new();
            bridge.attach(options(&[("errors", asked)])).await;
            let (there, here) = (bridge.on_bus(), bridge.program("mc-can0"));
            bridge.owner.error_frame("can0", error);
            there.send(frame(5)).await.unwrap();
            let wanted = if asked == "true" {
                vec![error, frame(5)]
            } else {
                vec![frame(5)]
            };
            assert_eq!(frames(&here, wanted.len()).await, wanted);
            here.send(error).await.unwrap();
            here.send(frame(6)).await.unwrap();
            assert_eq!(frames(&there, 1).await, [frame(6)]);
        }
    });
}

#[test]
fn filters_are_the_owners_work() {
    local(async {
        let bridge = Bridge::new();
        bridge.attach(options(&[("filter", "100:700")])).await;
        let (there, here) = (bridge.on_bus(), bridge.program("mc-can0"));
        for id in [0x0FF, 0x100, 0x1FF, 0x200] {
            there.send(frame(id)).await.unwrap();
        }
        assert_eq!(frames(&here, 2).await, [frame(0x100), frame(0x1FF)]);
    });
}

#[test]
fn a_pair_makes_frames_look_received() {
    local(async {
        let bridge = Bridge::new();
        let wish = Wish {
            way: Some("vxcan".to_owned()),
            name: Some("bench".to_owned()),
            ..Wish::default()
        };
        let (_, local) = bridge.attach(wish).await;
        assert_eq!(local.handle.files(), ["bench"]);
        let (there, here) = (bridge.on_bus(), bridge.program("bench"));
        there.send(frame(1)).await.unwrap();
        let received = here.receive().await.unwrap();
        assert_eq!(received[0].frame, frame(1));
        assert!(!received[0].local);
        here.send(frame(2)).await.unwrap();
        assert_eq!(frames(&there, 1).await, [frame(2)]);
        local.handle.detach();
        assert_eq!(local.ended.await, Ended::Detached);
        assert_eq!(bridge.client.list().unwrap(), []);
    });
}

#[test]
fn nothing_is_left_of_an_interface_that_was_given_back() {
    local(async {
        let bridge = Bridge::new();
        let (_, local) = bridge.attach(Wish::default()).await;
        local.handle.detach();
        assert_eq!(local.ended.await, Ended::Detached);
        assert_eq!(bridge.client.list().unwrap(), []);
        assert_eq!(bridge.ends().await, [myclerk::bus::End::Detached]);
        assert_eq!(bridge.owner.open_sockets("can0"), 0);
    });
}

#[test]
fn a_lost_session_takes_the_interface_away_on_both_sides() {
    local(async {
        let bridge = Bridge::new();
        let (session, local) = bridge.attach(Wish::default()).await;
        session.cut();
        assert_eq!(local.ended.await, Ended::Session);
        assert_eq!(bridge.client.list().unwrap(), []);
        assert_eq!(bridge.ends().await, [myclerk::bus::End::PeerLeft]);
    });
}

#[test]
fn an_unplugged_controller_takes_the_interface_away() {
    local(async {
        let bridge = Bridge::new();
        let (_, local) = bridge.attach(Wish::default()).await;
        bridge.owner.unplug("can0");
        assert_eq!(local.ended.await, Ended::Owner(Status::ServiceUnavailable));
        assert_eq!(bridge.client.list().unwrap(), []);
        assert_eq!(bridge.ends().await, [myclerk::bus::End::DeviceGone]);
    });
}

#[test]
fn an_interface_that_somebody_removed_here_ends_the_attachment() {
    local(async {
        let bridge = Bridge::new();
        let (_, local) = bridge.attach(Wish::default()).await;
        bridge.client.unplug("mc-can0");
        assert!(matches!(local.ended.await, Ended::Failed(_)));
        assert_eq!(bridge.ends().await, [myclerk::bus::End::Detached]);
    });
}

#[test]
fn what_a_killed_client_left_is_replaced() {
    local(async {
        let bridge = Bridge::new();
        let alias = "myclerk:hub/can:can0";
        bridge.client.add_virtual("mc-can0", alias);
        bridge.client.add_virtual("other", "myclerk:hub/can:can1");
        bridge.attach(Wish::default()).await;
        let links = bridge.client.list().unwrap();
        let names: Vec<_> = links.iter().map(|link| link.name.as_str()).collect();
        assert_eq!(names, ["other", "mc-can0"]);
        assert_eq!(links[1].alias, alias);
    });
}

#[test]
fn a_name_that_is_taken_is_refused_or_numbered() {
    local(async {
        let bridge = Bridge::new();
        bridge.client.add_virtual("mc-can0", "");
        let (_, local) = bridge.attach(Wish::default()).await;
        assert_eq!(local.handle.files(), ["mc-can0-2"]);
        let wish = Wish {
            name: Some("mc-can0".to_owned()),
            ..Wish::default()
        };
        let (session, refused) = bridge.try_attach(wish).await;
        assert!(matches!(refused.err(), Some(AttachError::Wish(_))));
        drop(session);
    });
}

#[test]
fn a_machine_without_vcan_is_told_what_to_load() {
    local(async {
        let bridge = Bridge::new();
        bridge.client.refuse_making(Errno::EOPNOTSUPP);
        let (_, refused) = bridge.try_attach(Wish::default()).await;
        let Some(AttachError::Here { mend, .. }) = refused.err() else {
            panic!("refused here");
        };
        assert_eq!(mend.as_deref(), Some("modprobe vcan && modprobe vxcan"));
        assert_eq!(bridge.ends().await.len(), 1);
    });
}

#[test]
fn whoever_may_only_hear_gets_an_interface_that_sends_nothing() {
    local(async {
        let bridge = Bridge::new().reading();
        bridge.attach(Wish::default()).await;
        let (there, here) = (bridge.on_bus(), bridge.program("mc-can0"));
        here.send(frame(1)).await.unwrap();
        there.send(frame(2)).await.unwrap();
        assert_eq!(frames(&here, 1).await, [frame(2)]);
        assert_eq!(there.arrived(), []);
    });
}

#[test]
fn a_bit_rate_of_the_attachment_is_the_owners_while_it_lasts() {
    local(async {
        let bridge = Bridge::new();
        bridge.owner.change("can0", |link| {
            link.controller.as_mut().unwrap().state = BusState::Off;
        });
        let (_, local) = bridge.attach(options(&[("bitrate", "250000")])).await;
        let controller = bridge.owner.find("can0").unwrap().controller.unwrap();
        assert_eq!(controller.timing.bitrate, 250_000);
        assert_eq!(controller.state, BusState::Active);
        local.handle.detach();
        assert_eq!(local.ended.await, Ended::Detached);
        let controller = bridge.owner.find("can0").unwrap().controller.unwrap();
        assert_eq!(controller.timing.bitrate, 500_000);
    });
}

#[test]
fn a_bit_rate_that_the_owner_refuses_leaves_nothing_attached() {
    local(async {
        let bridge = Bridge::new();
        bridge.owner.refuse_settings("can0", Errno::EDOM);
        let (_, refused) = bridge.try_attach(options(&[("bitrate", "3")])).await;
        assert!(matches!(refused.err(), Some(AttachError::Ask(_))));
        assert_eq!(bridge.client.list().unwrap(), []);
        let controller = bridge.owner.find("can0").unwrap().controller.unwrap();
        assert_eq!(controller.timing.bitrate, 500_000);
    });
}

#[test]
fn an_operation_reaches_the_owners_controller() {
    local(async {
        let bridge = Bridge::new();
        let (_, local) = bridge.attach(Wish::default()).await;
        let operate = |name: &str, words: &[(&str, &str)]| {
            let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
            local
                .handle
                .operate(name.to_owned(), words.iter().map(owned).collect())
        };
        let actual = operate("configure", &[("bitrate", "250000")])
            .await
            .unwrap();
        assert_eq!(actual["bitrate"], 250_000);
        let status = operate("status", &[]).await.unwrap();
        assert_eq!(status["state"], "error-active");
        operate("filter", &[("filter", "5:7FF")]).await.unwrap();
        let (there, here) = (bridge.on_bus(), bridge.program("mc-can0"));
        there.send(frame(4)).await.unwrap();
        there.send(frame(5)).await.unwrap();
        assert_eq!(frames(&here, 1).await, [frame(5)]);
    });
}

#[test]
fn a_local_interface_that_is_down_loses_frames_and_comes_back() {
    local(async {
        let bridge = Bridge::new();
        bridge.attach(Wish::default()).await;
        let (there, here) = (bridge.on_bus(), bridge.program("mc-can0"));
        bridge.client.change("mc-can0", |link| link.up = false);
        there.send(frame(1)).await.unwrap();
        bridge.settled().await;
        bridge.client.change("mc-can0", |link| link.up = true);
        there.send(frame(2)).await.unwrap();
        assert_eq!(frames(&here, 1).await, [frame(2)]);
    });
}
