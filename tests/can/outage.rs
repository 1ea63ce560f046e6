//! The session is lost and comes back, or does not.

use std::time::Duration;

use myclerk::bus::can::hardware::CanHost;
use myclerk::bus::{Ended, Parameters, Wish};
use tokio::time::{Instant, sleep};

use super::bridge::{Bridge, frame, frames, local};

fn patient() -> Wish {
    Wish {
        grace: Duration::from_secs(60),
        ..Wish::default()
    }
}

#[test]
fn an_interface_outlives_an_outage() {
    local(async {
        let bridge = Bridge::new();
        let (session, local) = bridge.attach(patient()).await;
        let (program, far) = (bridge.program("mc-can0"), bridge.on_bus());
        session.cut();
        assert_eq!(bridge.ends().await, [myclerk::bus::End::PeerLeft]);
        assert!(!local.handle.is_live());
        program.send(frame(1)).await.unwrap();
        bridge.settled().await;
        session.mend();
        assert_eq!(frames(&far, 1).await, [frame(1)]);
        assert!(local.handle.is_live());
        far.send(frame(2)).await.unwrap();
        assert_eq!(frames(&program, 1).await, [frame(2)]);
        local.handle.detach();
        assert_eq!(local.ended.await, Ended::Detached);
        assert_eq!(bridge.ends().await, [myclerk::bus::End::Detached]);
    });
}

#[test]
fn after_an_outage_no_old_frame_comes() {
    local(async {
        let bridge = Bridge::new();
        let (session, local) = bridge.attach(patient()).await;
        let (program, far) = (bridge.program("mc-can0"), bridge.on_bus());
        session.cut();
        program.send(frame(1)).await.unwrap();
        sleep(Duration::from_secs(8)).await;
        program.send(frame(2)).await.unwrap();
        sleep(Duration::from_secs(8)).await;
        session.mend();
        assert_eq!(
            frames(&far, 1).await,
            [frame(2)],
            "the first waited too long"
        );
        drop(local);
    });
}

#[test]
fn an_interface_goes_when_the_outage_lasts() {
    local(async {
        let bridge = Bridge::new();
        let (session, local) = bridge.attach(patient()).await;
        let began = Instant::now();
        session.cut();
        assert_eq!(local.ended.await, Ended::Session);
        assert_eq!(began.elapsed().as_secs(), 60);
        assert_eq!(bridge.client.list().unwrap(), []);
    });
}

#[test]
fn an_interface_can_be_given_back_during_an_outage() {
    local(async {
        let bridge = Bridge::new();
        let (session, local) = bridge.attach(patient()).await;
        session.cut();
        bridge.settled().await;
        local.handle.detach();
        assert_eq!(local.ended.await, Ended::Detached);
        assert_eq!(bridge.client.list().unwrap(), []);
    });
}

fn bitrate(bridge: &Bridge) -> u32 {
    let link = bridge.owner.find("can0").unwrap();
    link.controller.unwrap().timing.bitrate
}

#[test]
fn what_was_set_at_the_owner_is_set_again_after_an_outage() {
    local(async {
        let bridge = Bridge::new();
        let (session, local) = bridge.attach(patient()).await;
        let parameters = Parameters::from([("bitrate".to_owned(), "250000".to_owned())]);
        let set = local.handle.operate("configure".to_owned(), parameters);
        set.await.unwrap();
        assert_eq!(bitrate(&bridge), 250_000);
        session.cut();
        bridge.settled().await;
        assert_eq!(bitrate(&bridge), 500_000);
        session.mend();
        bridge.settled().await;
        assert_eq!(bitrate(&bridge), 250_000);
    });
}
