use super::*;
use proptest::prelude::*;

const NOW: WallClock = WallClock {
    secs: 1000,
    quality: ClockQuality::Synchronised,
};

fn root() -> Authority {
    Authority::from_bytes(&[1; 32])
}

fn body() -> NodeBody {
    NodeBody {
        family: root().public().family_id(),
        key: [7; 32],
        not_before: 900,
        not_after: 1100,
        roles: vec!["client".to_owned()],
        serial: Serial([2; 8]),
        tier: 5,
        name: Some("shed".to_owned()),
        user: None,
    }
}

fn issuer_body(key: AuthorityKey) -> IssuerBody {
    IssuerBody {
        family: root().public().family_id(),
        key,
        not_before: 950,
        not_after: 1050,
        serial: Serial([3; 8]),
    }
}

fn trust() -> Trust {
    let mut trust = Trust::new(0);
    trust.pin(root().public());
    trust
}

fn verify(chain: &CertificateChain, wall: WallClock) -> Result<NodeCertificate, CertificateError> {
    chain.verify(&[7; 32], &trust(), wall)
}

#[test]
fn a_certificate_of_the_root_is_accepted_within_its_validity() {
    let chain = CertificateChain::issue(&root(), &body(), None).unwrap();
    let certificate = verify(&chain, NOW).unwrap();
    assert_eq!(certificate.node_id, NodeId::of(&[7; 32]));
    assert_eq!(
        (certificate.tier, certificate.name.as_deref()),
        (Tier::T5, Some("shed"))
    );
    let at = |secs, quality| verify(&chain, WallClock { secs, quality });
    assert!(at(900, ClockQuality::Synchronised).is_ok());
    assert!(at(1100, ClockQuality::Synchronised).is_ok());
    assert_eq!(
        at(1101, ClockQuality::Synchronised),
        Err(CertificateError::Expired { not_after: 1100 })
    );
    assert_eq!(
        at(899, ClockQuality::Synchronised),
        Err(CertificateError::NotYetValid { not_before: 900 })
    );
}

#[test]
fn a_node_without_a_clock_accepts_a_certificate_from_its_future() {
    let chain = CertificateChain::issue(&root(), &body(), None).unwrap();
    assert!(
        verify(
            &chain,
            WallClock {
                secs: 5,
                quality: ClockQuality::Estimated
            }
        )
        .is_ok()
    );
    assert!(
        verify(
            &chain,
            WallClock {
                secs: u64::MAX,
                quality: ClockQuality::None
            }
        )
        .is_ok()
    );
}

#[test]
fn an_issuer_certified_by_the_root_certifies_until_its_own_end() {
    let issuer = Authority::from_bytes(&[4; 32]);
    let object = CertificateChain::certify_issuer(&root(), &issuer_body(issuer.public())).unwrap();
    let chain = CertificateChain::issue(&issuer, &body(), Some(&object)).unwrap();
    let certificate = verify(&chain, NOW).unwrap();
    assert_eq!((certificate.not_before, certificate.not_after), (950, 1050));
    assert_eq!(certificate.serials, (Serial([2; 8]), Some(Serial([3; 8]))));
    let late = WallClock { secs: 1051, ..NOW };
    assert_eq!(
        verify(&chain, late),
        Err(CertificateError::Expired { not_after: 1050 })
    );
}

#[test]
fn an_issuer_that_the_root_did_not_certify_is_refused() {
    let stranger = Authority::from_bytes(&[5; 32]);
    let issuer = Authority::from_bytes(&[4; 32]);
    let object =
        CertificateChain::certify_issuer(&stranger, &issuer_body(issuer.public())).unwrap();
    let chain = CertificateChain::issue(&issuer, &body(), Some(&object)).unwrap();
    assert!(matches!(
        verify(&chain, NOW),
        Err(CertificateError::UnknownIssuer(_))
    ));
    let direct = CertificateChain::issue(&issuer, &body(), None).unwrap();
    assert!(matches!(
        verify(&direct, NOW),
        Err(CertificateError::UnknownIssuer(_))
    ));
}

#[test]
fn a_node_certificate_is_no_issuer_certificate() {
    let node = Signed::create(&root(), Kind::Node, &issuer_body(root().public())).unwrap();
    assert_eq!(
        node.verify(Kind::Issuer, &root().public()),
        Err(CertificateError::Signature)
    );
}

#[test]
fn a_certificate_for_another_key_or_of_another_family_is_refused() {
    let chain = CertificateChain::issue(&root(), &body(), None).unwrap();
    assert_eq!(
        chain.verify(&[8; 32], &trust(), NOW),
        Err(CertificateError::OtherKey)
    );
    assert_eq!(
        chain.verify(&[7; 32], &Trust::new(0), NOW),
        Err(CertificateError::UnknownFamily(body().family))
    );
    assert_eq!(
        CertificateChain::empty().verify(&[7; 32], &trust(), NOW),
        Err(CertificateError::Missing)
    );
}

#[test]
fn chains_beyond_the_limits_are_refused() {
    let node = Signed::create(&root(), Kind::Node, &body()).unwrap();
    let three = msgpack::encode(&vec![node.clone(), node.clone(), node]).unwrap();
    assert_eq!(
        CertificateChain::decode(&three),
        Err(CertificateError::Limit)
    );
    assert_eq!(
        CertificateChain::decode(&[0x90; 2049]),
        Err(CertificateError::Limit)
    );
    let many = NodeBody {
        roles: vec![String::new(); 33],
        ..body()
    };
    let chain = CertificateChain::issue(&root(), &many, None).unwrap();
    assert_eq!(verify(&chain, NOW), Err(CertificateError::Limit));
    for tier in [0, 2, 6, 255] {
        let chain = CertificateChain::issue(&root(), &NodeBody { tier, ..body() }, None).unwrap();
        assert_eq!(verify(&chain, NOW), Err(CertificateError::Tier));
    }
}

#[test]
fn no_flipped_bit_of_a_chain_is_accepted() {
    let issuer = Authority::from_bytes(&[4; 32]);
    let object = CertificateChain::certify_issuer(&root(), &issuer_body(issuer.public())).unwrap();
    let chain = CertificateChain::issue(&issuer, &body(), Some(&object)).unwrap();
    for bit in 0..chain.as_bytes().len() * 8 {
        let mut raw = chain.as_bytes().to_vec();
        raw[bit / 8] ^= 1 << (bit % 8);
        let accepted =
            CertificateChain::decode(&raw).is_ok_and(|chain| verify(&chain, NOW).is_ok());
        assert!(!accepted, "bit {bit}");
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(raw in proptest::collection::vec(any::<u8>(), 0..400)) {
        if let Ok(chain) = CertificateChain::decode(&raw) {
            prop_assert!(chain.is_empty() || verify(&chain, NOW).is_err());
        }
    }
}
