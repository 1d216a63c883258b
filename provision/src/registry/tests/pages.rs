//! Rosters whose watermarks are long.

use wire::provisioning::{Fenced, MAX_ANSWER_BYTES, MAX_WATERMARK_BYTES};

use super::*;

/// Of so many pieces, each of a number with as many digits as it ever may have in practice.
fn pieces(count: u64) -> Watermark {
    let mut landed = RangeSet::new();
    for number in 0..count {
        landed.insert(Sequence(1_000_000_000 + 2 * number));
    }
    vec![(StreamId(9), landed)]
}

#[tokio::test]
async fn watermarks_of_many_pieces_are_told_in_pages_that_can_be_read() {
    let site = Site::new();
    site.set_up().await;
    let production = Environment::new("production").unwrap();
    let mut told = Vec::new();
    for name in ["g1", "g2", "g3", "g4"] {
        let assigned = site.register(name).await.unwrap().assignments[0].0.clone();
        let (origin, gateway, tenant) = (assigned.stamp, assigned.gateway, assigned.tenant);
        let landed = pieces(100_000);
        let fenced = Fenced { gateway: gateway.clone(), tenant: tenant.clone(), epoch: 2, landed };
        let bytes = serde_json::to_vec(&fenced).unwrap().len();
        assert!((2 << 20..MAX_WATERMARK_BYTES).contains(&bytes), "{bytes}");
        let (production, watermark) = (production.clone(), fenced.landed.clone());
        let moving = site
            .registry
            .change(move |books| {
                books.begin_move(&gateway, &tenant, None, &production, (Backlog::Carry, None))?;
                books.fenced(&origin, (&gateway, &tenant), 2, &watermark)
            })
            .await
            .unwrap();
        told.push((moving.unwrap().destination, fenced));
    }
    for stamp in ["eu-1", "eu-2"] {
        let (mut after, mut seen) = (0, Vec::new());
        loop {
            let page = site.roster(stamp, after).await;
            assert!(serde_json::to_vec(&page).unwrap().len() < MAX_ANSWER_BYTES);
            seen.extend(page.entries);
            after = page.revision;
            if !page.more {
                break;
            }
        }
        for (_, fenced) in told.iter().filter(|(destination, _)| destination.as_str() == stamp) {
            let times = seen.iter().filter(|entry| {
                let same = entry.gateway == fenced.gateway && entry.tenant == fenced.tenant;
                same && matches!(&entry.treatment, Treatment::Served { landed, .. } if *landed == fenced.landed)
            });
            assert_eq!(times.count(), 1, "{} at {stamp}", fenced.gateway);
        }
    }
}
