//! From a listing to roles. A member has a role only if all that AMF has assigned to it says so.

use leapfrog_plugin::types::Role;

use crate::{
    listing::{Assignment, Ha},
    settings::Settings,
};

/// The role of a member.
///
/// # Errors
/// Why it is unknown, for people.
pub fn role(settings: &Settings, member: &str, listing: &[Assignment]) -> Result<Role, String> {
    let units = settings.units(member);
    if units.is_empty() {
        return Err(format!("the settings name no SU of {member} (hint: add it to `driver.with.units`)"));
    }
    if listing.is_empty() {
        return Err("OpenSAF lists no assignment at all: it does not run, or the SIs are locked".into());
    }
    let mine: Vec<_> = listing.iter().filter(|a| units.contains(&a.su.as_str())).collect();
    for unit in &units {
        let its: Vec<_> = mine.iter().filter(|a| a.su == *unit).collect();
        if its.is_empty() {
            return Err(format!(
                "nothing is assigned to {unit}: it is locked or disabled, or its node is not in the cluster"
            ));
        }
        if !its.iter().any(|a| settings.si.contains(&a.si)) {
            return Err(format!("no SI of {unit} stands in `driver.with.si`, but {} does", its[0].si));
        }
    }
    for si in &settings.si {
        match mine.iter().filter(|a| a.si == *si).count() {
            1 => {}
            0 => return Err(format!("{si} is not assigned to {member}")),
            n => return Err(format!("{si} is assigned to {n} SUs of {member}")),
        }
    }
    let first = mine[0];
    if let Some(other) = mine.iter().find(|a| a.ha != first.ha) {
        return Err(format!(
            "{member} is {} for {} and {} for {}",
            first.ha.word(),
            first.si,
            other.ha.word(),
            other.si
        ));
    }
    let role = match first.ha {
        Ha::Active => Role::Active,
        Ha::Standby => Role::Standby,
        Ha::Quiesced | Ha::Quiescing => {
            return Err(format!("{member} is {}: its SIs are on the way", first.ha.word()));
        }
    };
    // 2N has one active for an SI. Whoever is standby while nobody serves is about to be promoted.
    for assigned in mine {
        match listing.iter().filter(|a| a.si == assigned.si && a.ha == Ha::Active).count() {
            1 => {}
            0 => return Err(format!("{member} is STANDBY for {}, but no SU is ACTIVE", assigned.si)),
            n => return Err(format!("{n} SUs are ACTIVE for {}", assigned.si)),
        }
    }
    Ok(role)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        listing::assignments,
        settings::tests::{SC_SI, SC1, SC2, SI, SU1, SU2, demo, with, with_controllers},
    };

    const HA: &str = include_str!("../recordings/siass-ha.txt");

    fn entry(su: &str, si: &str, state: &str) -> String {
        format!("safSISU={},{si}\n\tsaAmfSISUHAState={state}\n", su.replace(',', "\\,"))
    }

    fn of(settings: &Settings, member: &str, listing: &str) -> Result<Role, String> {
        role(settings, member, &assignments(listing)?)
    }

    #[test]
    fn one_listing_speaks_for_all_members_in_any_order() {
        let settings = demo();
        let turned = entry(SU1, SI, "ACTIVE(1)")
            + &entry(SU1, "safSi=X,safApp=A", "ACTIVE(1)")
            + &entry(SU2, SI, "STANDBY(2)");
        for listing in [HA, turned.as_str()] {
            assert_eq!(of(&settings, "one", listing), Ok(Role::Active));
            assert_eq!(of(&settings, "two", listing), Ok(Role::Standby));
        }
        assert!(of(&settings, "three", HA).is_err_and(|why| why.contains("units")));
    }

    #[test]
    fn trouble_is_unknown() {
        let settings = demo();
        let unknown = |listing: &str, word: &str| {
            let why = of(&settings, "two", listing).expect_err(word);
            assert!(why.contains(word), "{why} should contain {word}");
        };
        unknown("", "does not run");
        unknown(&entry(SU1, SI, "ACTIVE(1)"), "nothing is assigned to safSu=SU2");
        unknown(&entry(SU2, SI, "STANDBY(2)"), "no SU is ACTIVE");
        unknown(&HA.replace("ACTIVE(1)", "STANDBY(2)"), "no SU is ACTIVE");
        unknown(&HA.replace("ACTIVE(1)", "QUIESCED(3)"), "no SU is ACTIVE");
        unknown(&HA.replace("STANDBY(2)", "ACTIVE(1)"), "2 SUs are ACTIVE");
        unknown(&HA.replace("STANDBY(2)", "QUIESCED(3)"), "on the way");
        unknown(&HA.replace("STANDBY(2)", "QUIESCING(4)"), "on the way");
        unknown(&HA.replace("SU2", "SU22"), "nothing is assigned to safSu=SU2");
        unknown(&HA.replace("safSg=AmfDemo", "safSg=AmfDemoB"), "nothing is assigned");
        let other = entry(SU1, SI, "ACTIVE(1)") + &entry(SU2, "safSi=X,safApp=A", "STANDBY(2)");
        unknown(&other, "no SI of safSu=SU2");
    }

    #[test]
    fn mixed_states_of_one_vm_are_no_role() {
        // An SI that the settings do not name counts when it is seen.
        let settings = demo();
        let mixed = HA.to_owned() + &entry(SU2, "safSi=X,safApp=A", "ACTIVE(1)");
        assert!(
            of(&settings, "two", &mixed)
                .is_err_and(|why| why.contains("STANDBY for") && why.contains("ACTIVE for"))
        );
        assert_eq!(of(&settings, "one", &mixed), Ok(Role::Active));

        let settings = with_controllers();
        let both = |one, two| HA.to_owned() + &entry(SC1, SC_SI, one) + &entry(SC2, SC_SI, two);
        let same = both("ACTIVE(1)", "STANDBY(2)");
        assert_eq!(of(&settings, "one", &same), Ok(Role::Active));
        assert_eq!(of(&settings, "two", &same), Ok(Role::Standby));
        let crossed = both("STANDBY(2)", "ACTIVE(1)");
        assert!(of(&settings, "one", &crossed).is_err() && of(&settings, "two", &crossed).is_err());
        assert!(of(&settings, "two", HA).is_err_and(|why| why.contains(SC2)));
    }

    #[test]
    fn an_si_that_is_nowhere_is_told() {
        let settings = with(&[SI, SC_SI], &[("one", SU1), ("two", SU2)]).expect("they are right");
        assert!(
            of(&settings, "one", HA).is_err_and(|why| why.contains("SC-2N,safApp=OpenSAF is not assigned"))
        );
    }

    #[test]
    fn no_cut_makes_a_role_that_the_whole_does_not_have() {
        let settings = with_controllers();
        let whole = entry(SC2, SC_SI, "ACTIVE(1)") + HA + &entry(SC1, SC_SI, "STANDBY(2)");
        for end in 0..=whole.len() {
            for member in ["one", "two"] {
                assert!(of(&settings, member, &whole[..end]).is_err(), "{member}, cut at {end}");
            }
        }
    }
}
