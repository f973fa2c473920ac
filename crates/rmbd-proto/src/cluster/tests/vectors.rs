//! Committed payloads, written by a program that knows only the description of the format.

use serde_json::{Value, json};

use super::*;

fn bytes(hex: &Value) -> Vec<u8> {
    let hex = hex.as_str().unwrap();
    let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    (0..hex.len()).step_by(2).map(byte).collect()
}

fn slice(slice: &SliceId) -> Value {
    json!([slice.sketch.0, slice.node, slice.writer.0])
}

fn cells_of_groups(mut groups: GroupsReader<'_>) -> Vec<(u32, Vec<(u32, u64)>)> {
    let (mut cells, mut all) = (Vec::new(), Vec::new());
    while let Some(group) = groups.next_group(&mut cells) {
        all.push((group, cells.clone()));
    }
    all
}

fn entries_meaning(entries: Entries<'_>) -> Vec<Value> {
    let entry = |entry: DigestEntry| json!({"slice": slice(&entry.slice), "version": entry.version, "root": entry.root});
    entries.map(entry).collect()
}

const NO_SKETCH: SketchEntry = SketchEntry {
    number: SketchNumber(0),
    fingerprint: 0,
};

fn line(place: CatalogueLine) -> Value {
    json!([place.sketch.0, place.line])
}

fn name(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::Membership => "membership",
        Purpose::OneWay => "one_way",
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn pardon_meaning(pardon: PardonEntry<'_>) -> Value {
    json!({
        "limit": pardon.limit.0,
        "key": hex(pardon.key),
        "count": pardon.count,
        "giver": pardon.giver.0,
        "left_ms": pardon.left_ms,
        "kept_ms": pardon.kept_ms,
        "credits": pardon.credits,
    })
}

fn versions_meaning(lists: TopVersions<'_>) -> Value {
    let meaning = |list: TopVersion| {
        let (slice, complete) = (slice(&list.slice), list.complete);
        json!({"slice": slice, "version": list.version, "complete": complete})
    };
    lists.map(meaning).collect()
}

fn top_meaning(of: &SliceId, list: &TopList<'_>) -> Value {
    let head = list.head();
    let bounds = head.bounds.iter();
    let bounds: Vec<_> = bounds.map(|it| (it.span_ms, it.above)).collect();
    let entries = list.entries().map(|entry| {
        let key = match entry.key {
            TopName::Gone => json!("gone"),
            TopName::Hash(halves) => json!({"hash": halves}),
            TopName::Name(name) => json!({"name": hex(name)}),
            TopName::AsBefore => json!("as_before"),
        };
        let (place, changed) = (entry.place, entry.changed);
        let (lists, certain) = (entry.lists, entry.certain);
        json!({"place": place, "changed": changed, "key": key, "lists": lists, "certain": certain})
    });
    let entries: Vec<_> = entries.collect();
    json!({
        "frame": "top",
        "slice": slice(of),
        "from": head.from,
        "to": head.to,
        "complete": head.is_complete,
        "weight": head.weight,
        "bounds": bounds,
        "entries": entries,
    })
}

/// The meaning of a frame in the form that the vectors use.
fn meaning(frame: Frame<'_>) -> Value {
    match frame {
        Frame::Ack { channel, ranges } => {
            let ranges: Vec<_> = ranges.map(|range| range.into_inner()).collect();
            json!({"frame": "ack", "channel": channel, "ranges": ranges})
        }
        Frame::Cells { slice: of, cells } => {
            let cells: Vec<_> = cells.collect();
            json!({"frame": "cells", "slice": slice(&of), "cells": cells})
        }
        Frame::Groups {
            slice: of,
            version,
            groups,
        } => {
            let groups = cells_of_groups(groups).into_iter();
            let groups: Vec<_> = groups
                .map(|(group, cells)| json!({"group": group, "cells": cells}))
                .collect();
            json!({"frame": "groups", "slice": slice(&of), "version": version, "groups": groups})
        }
        Frame::AgedGroups {
            slice: of,
            version,
            mut groups,
        } => {
            let (mut group, mut all) = (AgedGroup::default(), Vec::new());
            let ages: Vec<u64> = groups.ages().collect();
            while let Some(number) = groups.next_group(&mut group) {
                let cells = GROUP_CELLS.min((CELLS - number * GROUP) as usize);
                let marks = group.increments.chunks(groups.fold().folded(cells));
                let marks: Vec<_> = marks.collect();
                all.push(json!({"group": number, "cells": group.cells, "increments": marks}));
            }
            let (fold, slice) = (groups.fold().cells(), slice(&of));
            json!({"frame": "aged_groups", "slice": slice, "version": version, "fold": fold, "ages_ms": ages, "groups": all})
        }
        Frame::Complete {
            slice: of,
            base,
            version,
        } => json!({"frame": "complete", "slice": slice(&of), "base": base, "version": version}),
        Frame::Digest { entries } => {
            json!({"frame": "digest", "entries": entries_meaning(entries)})
        }
        Frame::DigestAsked => json!({"frame": "digest_asked"}),
        Frame::SectionsAsked { slice: of, first } => {
            json!({"frame": "sections_asked", "slice": slice(&of), "first": first})
        }
        Frame::Sections {
            slice: of,
            version,
            first,
            hashes,
        } => {
            let (slice, hashes) = (slice(&of), hashes.collect::<Vec<_>>());
            json!({"frame": "sections", "slice": slice, "version": version, "first": first, "hashes": hashes})
        }
        Frame::GroupHashesAsked { slice: of, section } => {
            json!({"frame": "group_hashes_asked", "slice": slice(&of), "section": section})
        }
        Frame::GroupHashes {
            slice: of,
            version,
            section,
            hashes,
        } => {
            let (slice, hashes) = (slice(&of), hashes.collect::<Vec<_>>());
            json!({"frame": "group_hashes", "slice": slice, "version": version, "section": section, "hashes": hashes})
        }
        Frame::Pull { slice: of, groups } => {
            let ranges: Vec<_> = groups.map(|range| range.into_inner()).collect();
            json!({"frame": "pull", "slice": slice(&of), "ranges": ranges})
        }
        Frame::CatalogueAsked { first } => {
            json!({"frame": "catalogue_asked", "first": line(first)})
        }
        Frame::Catalogue {
            first,
            next,
            entries,
        } => {
            let (entries, next) = (entries_meaning(entries), next.map(line));
            json!({"frame": "catalogue", "first": line(first), "next": next, "entries": entries})
        }
        Frame::SketchSums { sums } => {
            let sums: Vec<_> = sums.map(|sum| (sum.sketch.0, sum.sum)).collect();
            json!({"frame": "sketch_sums", "sums": sums})
        }
        Frame::SketchAsked { sketch } => json!({"frame": "sketch_asked", "sketch": sketch.0}),
        Frame::Contact { purpose } => json!({"frame": "contact", "purpose": name(purpose)}),
        Frame::ContactAnswered { purpose } => {
            json!({"frame": "contact_answered", "purpose": name(purpose)})
        }
        Frame::About {
            asks,
            writer,
            total,
            first,
            sketches,
        } => {
            let sketches = sketches.map(|sketch| (sketch.number.0, sketch.fingerprint));
            let sketches: Vec<_> = sketches.collect();
            json!({"frame": "about", "asks": asks, "writer": writer.0, "total": total, "first": first, "sketches": sketches})
        }
        Frame::UnknownSketch { slice: of } => {
            json!({"frame": "unknown_sketch", "slice": slice(&of)})
        }
        Frame::Wanted { slice: of } => json!({"frame": "wanted", "slice": slice(&of)}),
        Frame::Siblings { entries } => {
            let entry = |entry: SiblingsEntry| json!({"slice": slice(&entry.slice), "count": entry.count, "sum": entry.sum});
            let entries: Vec<_> = entries.map(entry).collect();
            json!({"frame": "siblings", "entries": entries})
        }
        Frame::BucketsAsked { slice: of } => {
            json!({"frame": "buckets_asked", "slice": slice(&of)})
        }
        Frame::Buckets { slice: of, sums } => {
            let sums: Vec<_> = sums.collect();
            json!({"frame": "buckets", "slice": slice(&of), "sums": sums})
        }
        Frame::LinesAsked {
            slice: of,
            buckets,
            first,
        } => {
            let slice = slice(&of);
            json!({"frame": "lines_asked", "slice": slice, "buckets": buckets, "first": first.0})
        }
        Frame::Pardons { entries } => {
            let pardons: Vec<_> = entries.map(pardon_meaning).collect();
            json!({"frame": "pardons", "pardons": pardons})
        }
        Frame::PardonSums { sums } => {
            json!({"frame": "pardon_sums", "sums": sums.collect::<Vec<_>>()})
        }
        Frame::PardonsAsked { buckets } => json!({"frame": "pardons_asked", "buckets": buckets}),
        Frame::NotHeld { slice: of } => json!({"frame": "not_held", "slice": slice(&of)}),
        Frame::TopSum { sum } => json!({"frame": "top_sum", "sum": sum}),
        Frame::History { known_ms } => json!({"frame": "history", "known_ms": known_ms}),
        Frame::TopOffered { lists } => {
            json!({"frame": "top_offered", "lists": versions_meaning(lists)})
        }
        Frame::TopAsked { lists } => {
            json!({"frame": "top_asked", "lists": versions_meaning(lists)})
        }
        Frame::Top { slice, list } => top_meaning(&slice, &list),
        Frame::Membership { message } => {
            json!({"frame": "membership", "message": hex(message)})
        }
    }
}

fn write(frame: Frame<'_>, writer: &mut FrameWriter<'_>) -> bool {
    match frame {
        Frame::Ack { channel, ranges } => writer.ack(channel, ranges),
        Frame::Cells { slice, mut cells } => {
            let written = writer.cells(&slice, |out| {
                assert!(cells.all(|(index, value)| out.push(index, value)));
            });
            written == Listed::Some
        }
        Frame::Groups {
            slice,
            version,
            groups,
        } => {
            let written = writer.groups(&slice, version, |out| {
                for (group, cells) in cells_of_groups(groups) {
                    let first = group * GROUP_CELLS as u32;
                    let mut values = vec![0; GROUP_CELLS.min((CELLS - first) as usize)];
                    for (index, value) in cells {
                        values[(index - first) as usize] = value;
                    }
                    assert!(out.push(group, &values));
                }
            });
            written == Listed::Some
        }
        Frame::AgedGroups {
            slice,
            version,
            mut groups,
        } => {
            let ages: Vec<u64> = groups.ages().collect();
            let fold = groups.fold();
            let mut group = AgedGroup::default();
            let written = writer.aged_groups(&slice, version, (fold, &ages), |out| {
                while let Some(number) = groups.next_group(&mut group) {
                    let first = number * GROUP;
                    let mut values = vec![0; GROUP_CELLS.min((CELLS - first) as usize)];
                    for &(index, value) in &group.cells {
                        values[(index - first) as usize] = value;
                    }
                    assert!(out.push(number, &values, &group.increments));
                }
            });
            written == Listed::Some
        }
        Frame::Complete {
            slice,
            base,
            version,
        } => writer.complete(&slice, base, version),
        Frame::Digest { entries } => writer.digest(entries) == entries.count(),
        Frame::DigestAsked => writer.digest_asked(),
        Frame::SectionsAsked { slice, first } => writer.sections_asked(&slice, first),
        Frame::Sections {
            slice,
            version,
            first,
            hashes,
        } => writer.sections(&slice, version, first, &hashes.collect::<Vec<_>>()),
        Frame::GroupHashesAsked { slice, section } => writer.group_hashes_asked(&slice, section),
        Frame::GroupHashes {
            slice,
            version,
            section,
            hashes,
        } => writer.group_hashes(&slice, version, section, &hashes.collect::<Vec<_>>()),
        Frame::Pull { slice, groups } => {
            writer.pull(&slice, groups.flatten()) == groups.flatten().count()
        }
        Frame::Membership { message } => writer.membership(message),
        Frame::CatalogueAsked { first } => writer.catalogue_asked(first),
        Frame::Catalogue {
            first,
            next,
            entries,
        } => writer.catalogue(first, next, &entries.collect::<Vec<_>>()),
        Frame::SketchSums { sums } => writer.sketch_sums(sums) == sums.count(),
        Frame::SketchAsked { sketch } => writer.sketch_asked(sketch),
        Frame::Contact { purpose } => writer.contact(purpose),
        Frame::ContactAnswered { purpose } => writer.contact_answered(purpose),
        Frame::NotHeld { slice } => writer.not_held(&slice),
        Frame::Wanted { slice } => writer.wanted(&slice),
        Frame::Siblings { entries } => writer.siblings(entries) == entries.count(),
        Frame::BucketsAsked { slice } => writer.buckets_asked(&slice),
        Frame::Buckets { slice, sums } => {
            let sums: Vec<u64> = sums.collect();
            let all = sums.try_into();
            all.is_ok_and(|all| writer.buckets(&slice, &all))
        }
        Frame::LinesAsked {
            slice,
            buckets,
            first,
        } => writer.lines_asked(&slice, buckets, first),
        Frame::About {
            asks,
            writer: writes,
            total,
            first,
            sketches,
        } => {
            // Those of other parts are not written here.
            let mut all = vec![NO_SKETCH; total as usize];
            for (at, sketch) in (first as usize..).zip(sketches) {
                all[at] = sketch;
            }
            let told = &all[..all.len().min(first as usize + sketches.count())];
            told.len() == all.len() && writer.about(asks, writes, &all, first)
        }
        Frame::Pardons { entries } => {
            let written = writer.pardons(entries);
            written > 0 && written == entries.count()
        }
        Frame::PardonSums { sums } => {
            let mut all = [0; PARDON_BUCKETS];
            sums.for_each(|(bucket, sum)| all[bucket] = sum);
            writer.pardon_sums(&all)
        }
        Frame::PardonsAsked { buckets } => writer.pardons_asked(buckets),
        Frame::TopSum { sum } => writer.top_sum(sum),
        Frame::History { known_ms } => writer.history(known_ms),
        Frame::TopOffered { lists } => writer.top_offered(&lists.collect::<Vec<_>>()),
        Frame::TopAsked { lists } => writer.top_asked(&lists.collect::<Vec<_>>()),
        Frame::Top { slice, list } => {
            let head = list.head();
            writer.top(&slice, &head, list.entries()) == Some((head.to, true))
        }
        Frame::UnknownSketch { .. } => false,
    }
}

#[test]
fn payloads_of_another_implementation_are_read_and_written() {
    let text = include_str!("../../../../../tests/data/cluster_vectors.json");
    let vectors: Value = serde_json::from_str(text).unwrap();
    assert_eq!(vectors["cells"], CELLS);
    let payloads = vectors["payloads"].as_array().unwrap();
    assert_eq!(payloads.len(), 218);
    for vector in payloads {
        let (name, payload) = (&vector["name"], bytes(&vector["bytes"]));
        let Some((head, rest)) = head(&payload) else {
            assert!(vector["head"].is_null(), "{name}");
            continue;
        };
        let address = head.address.to_string();
        let said = json!({"to_boot": head.to_boot.0, "node": head.node, "address": address});
        assert_eq!(said, vector["head"], "{name}");
        let read: Vec<_> = frames(rest, cells_of).collect();
        let meanings = read.iter().map(|frame| match frame {
            Ok(frame) => meaning(*frame),
            Err(malformed) => json!({"frame": "malformed", "type": malformed.kind}),
        });
        assert_eq!(
            json!(meanings.collect::<Vec<_>>()),
            vector["frames"],
            "{name}"
        );
        let mut written = Vec::new();
        head.write(&mut written);
        let mut writer = FrameWriter::new(&mut written, DATAGRAM_BYTES_MAX);
        let fits = read
            .into_iter()
            .flatten()
            .all(|frame| write(frame, &mut writer));
        let is_canonical = vector["canonical"] == true;
        assert_eq!(fits && written == payload, is_canonical, "{name}");
    }
}
