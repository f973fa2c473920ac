//! Weight that nobody counts exactly.

use super::*;

/// A key that is in the first sample, and one that is not.
fn keys(replica: &Replica) -> [[u8; 8]; 2] {
    [true, false].map(|is_in| {
        let below = Sample::new().below();
        let mut keys = (0_u64..).map(u64::to_le_bytes);
        let tag = |key: &[u8; 8]| tag_of(replica.own.hash(key).unwrap().halves());
        keys.find(|key| (tag(key) < below) == is_in).unwrap()
    })
}

#[test]
fn nothing_is_told_of_errors_once_weight_of_an_audited_key_was_missed() {
    let replica = replica(SHAPE);
    let [audited, other] = keys(&replica);
    let mut batch = Batch::new(Arc::clone(&replica));
    add(&mut batch, &audited, 5, 3);
    batch.finish(&mut no_answer);
    assert_eq!(look(&replica).unwrap().keys, 1);
    replica.add(&other, Weight::from(7)).unwrap();
    let figures = look(&replica).unwrap();
    assert_eq!((figures.keys, figures.total_weight), (1, 12));
    replica.add(&audited, Weight::from(9)).unwrap();
    assert_eq!(look(&replica), None);
    let state = replica.audit().unwrap();
    assert_eq!((state.missed_weight, state.too_low), (9, 0));
    assert!(!replica.wants_audit(), "there is nothing to be found");
    // And no verdict is judged wrong that may be right.
    batch
        .hit(&audited, (Weight::ONE, 14), (), &mut no_answer)
        .unwrap();
    batch.finish(&mut no_answer);
    assert_eq!(replica.audit().unwrap().verdicts, AuditVerdicts::default());
}

#[test]
fn whoever_has_no_seat_is_missed() {
    let replica = replica(SHAPE);
    let [audited, other] = keys(&replica);
    let seats = replica.audit.as_ref().unwrap().seats.len();
    let batch = |_| Batch::<()>::new(Arc::clone(&replica));
    let mut batches: Vec<_> = (0..=seats).map(batch).collect();
    for batch in &mut batches[..seats] {
        add(batch, &audited, 1, 3);
        add(batch, &other, 1, 3);
        batch.finish(&mut no_answer);
    }
    assert_eq!(look(&replica).unwrap().keys, 1);
    add(&mut batches[seats], &other, 1, 3);
    batches[seats].finish(&mut no_answer);
    assert_eq!(look(&replica).unwrap().keys, 1);
    add(&mut batches[seats], &audited, 1, 3);
    batches[seats].finish(&mut no_answer);
    assert_eq!(look(&replica), None);
    assert_eq!(replica.audit().unwrap().missed_weight, 1);
}

#[test]
fn a_key_without_a_hash_is_not_audited() {
    let geometry = Geometry::new(64, 5).unwrap();
    let options = |audit, family| ReplicaOptions {
        audit,
        ..ReplicaOptions::new(geometry, family)
    };
    let open = |audit, family| Arc::new(Replica::try_open(options(audit, family)).unwrap());
    let plan = |family| AuditPlan {
        geometry,
        family,
        threads: 1,
    };
    for family in [XXH3, HashFamily::Fnv] {
        let [without, with] = [false, true].map(|audit| open(audit, family));
        let more = with.memory_bytes() - without.memory_bytes();
        assert_eq!(more, plan(family).memory_bytes());
        assert_eq!(more > 0, family == XXH3);
        assert_eq!(without.audit(), None);
        assert_eq!(with.audit().is_some(), family == XXH3);
    }
    let replica = open(true, HashFamily::Fnv);
    let mut batch = Batch::new(Arc::clone(&replica));
    for key in 0..1_000_u64 {
        add(&mut batch, &key.to_le_bytes(), 1, key);
    }
    batch.finish(&mut no_answer);
    assert!(!replica.wants_audit() && AuditReader::new().begin(&replica).is_none());
}
