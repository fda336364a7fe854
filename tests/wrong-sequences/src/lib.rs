//! Moves a pair with one mistake in the sequence, which a rehearsal has to find.
//!
//! It is `pair-migration` in short, so that each mistake is a line or two beside what is right.

leapfrog_plugin::procedure! {
    path: ["../../wit", "wit"],
    world: "leapfrog:wrong-sequences/wrong-sequences",
}

use bindings::Mistake;
use leapfrog_plugin::procedure::*;

const TURN: u64 = 60_000;
const TURNS: u32 = 120;
const SETTLE: u64 = 60_000;
const ANSWER: u64 = 1_000;

struct Wrong;

struct Moving<'a> {
    pair: &'a Pair,
    destination: &'a Machine,
    members: Vec<Server>,
    mistake: Mistake,
}

impl Guest for Wrong {
    fn move_pair(pair: &Pair, destination: &Machine, mistake: Mistake) -> Result<String, Stop> {
        let the = Moving { pair, destination, members: pair.members(), mistake };
        the.go().map_err(|stop| match mistake {
            Mistake::StopsWithoutAWord => Stop::Failed(String::new()),
            _ => stop,
        })
    }

    fn undo_move_pair(pair: &Pair, destination: &Machine, mistake: Mistake) -> Result<String, Stop> {
        Moving { pair, destination, members: pair.members(), mistake }.undo()
    }
}

fn person(why: impl Into<String>) -> Stop {
    Stop::NeedsAPerson(why.into())
}

impl Moving<'_> {
    fn is(&self, mistake: Mistake) -> bool {
        self.mistake == mistake
    }

    fn go(&self) -> Result<String, Stop> {
        self.places()?;
        let (active, standby) = self.roles()?;
        let (active, standby) = (&self.members[active], &self.members[standby]);
        if self.is(Mistake::ActiveFirst) {
            self.leap(active, standby)?;
            return Ok("the active first".into());
        }
        if self.is(Mistake::BothMembersAtOnce) {
            self.settle(active)?;
            let first = standby.vm().migrate(self.destination, self.options())?;
            let second = active.vm().migrate(self.destination, self.options())?;
            self.copied(&first)?;
            self.copied(&second)?;
            return Ok("both at once".into());
        }
        self.leap(active, standby)?;
        if self.fails_in_the_middle() {
            if self.is(Mistake::UndoMovesAnActive) {
                // It does not say that this cannot be taken back.
                self.switch(active, standby)?;
            }
            return Err(Stop::Failed("it stops in the middle".into()));
        }
        self.switch(active, standby)?;
        self.leap(standby, active)?;
        if self.is(Mistake::SwitchBackOnStaleRoles) {
            self.command(active)?;
        }
        self.settle(if self.is(Mistake::SwitchBackOnStaleRoles) { active } else { standby })?;
        for member in &self.members {
            if self.verifies() && running(&member.vm())? != self.destination.name() {
                return Err(person("a member is elsewhere at the end"));
            }
        }
        Ok("moved".into())
    }

    fn fails_in_the_middle(&self) -> bool {
        matches!(
            self.mistake,
            Mistake::FailsInTheMiddle
                | Mistake::UndoMovesAnActive
                | Mistake::UndoMovesAnother
                | Mistake::UndoWithoutAWatch
                | Mistake::UndoSwapsTheRoles
        )
    }

    /// Brings home who is away, whatever its role is: it is the runner that looks.
    fn undo(&self) -> Result<String, Stop> {
        let (mut away, mut home) = (None, None);
        for member in &self.members {
            let at_home = running(&member.vm())? == self.destination.name();
            *(if at_home { &mut home } else { &mut away }) = Some(member);
        }
        let (Some(away), Some(home)) = (away, home) else { return Err(person("nobody is away")) };
        if self.is(Mistake::UndoSwapsTheRoles) {
            self.pair.switchover(away)?;
        }
        let moved = if self.is(Mistake::UndoMovesAnother) { home } else { away };
        self.copied(&moved.vm().migrate(self.destination, self.options())?)?;
        Ok("undone".into())
    }

    fn verifies(&self) -> bool {
        !matches!(
            self.mistake,
            Mistake::DestinationNotVerified | Mistake::SuccessUnverified | Mistake::GoesOnAfterAFailedCopy
        )
    }

    /// Both members are on one machine, or one of them is at the destination already.
    fn places(&self) -> Result<(), Stop> {
        let mut sources = Vec::new();
        for member in &self.members {
            let at = running(&member.vm())?;
            if at != self.destination.name() {
                sources.push(at);
            }
        }
        sources.dedup();
        match sources.as_slice() {
            [_] => Ok(()),
            _ if self.is(Mistake::IgnoresAThirdPlace) => Ok(()),
            _ => Err(Stop::Refused("the members are not where they should be".into())),
        }
    }

    /// Which member is active, which standby.
    fn roles(&self) -> Result<(usize, usize), Stop> {
        let seen = self.pair.roles()?;
        let of = |role: Role| {
            let found = seen.iter().position(|seen| seen.role == role)?;
            self.members.iter().position(|member| member.name() == seen[found].server)
        };
        let standby = of(Role::Standby)
            .or_else(|| self.is(Mistake::UnknownReadAsStandby).then(|| of(Role::Unknown)).flatten());
        match (of(Role::Active), standby) {
            (Some(active), Some(standby)) => Ok((active, standby)),
            _ => Err(person("the roles are not clear")),
        }
    }

    /// The pair is at rest, and the roles are as they should be.
    fn settle(&self, active: &Server) -> Result<(), Stop> {
        match self.mistake {
            Mistake::NoWaitForSettled
            | Mistake::RolesCachedAcrossTheSwitch
            | Mistake::DestinationNotVerified
            | Mistake::SuccessUnverified
            | Mistake::GoesOnAfterAFailedCopy
            | Mistake::GoesOnAfterAFailedSwitchover
            | Mistake::NoWaitForTheSwitchover => return Ok(()),
            // Looks at the roles alone.
            Mistake::ServiceNotProbed | Mistake::UnknownReadAsStandby => {
                let (now, _) = self.roles()?;
                return if self.members[now].name() == active.name() {
                    Ok(())
                } else {
                    Err(person("the roles have changed"))
                };
            }
            _ => {}
        }
        loop {
            match self.pair.settled(active, SETTLE)? {
                Settlement::Settled => return Ok(()),
                Settlement::Unsettled(_) if self.is(Mistake::WaitsForEver) => {
                    // No bound, and nobody is told.
                    leapfrog_plugin::time::sleep(600_000);
                }
                Settlement::Unsettled(why) => return Err(person(why.join("; "))),
            }
        }
    }

    fn leap(&self, active: &Server, standby: &Server) -> Result<(), Stop> {
        self.settle(active)?;
        let vm = if self.is(Mistake::ActiveFirst) { active.vm() } else { standby.vm() };
        let migration = match vm.migrate(self.destination, self.options()) {
            Err(_) if self.is(Mistake::SuccessUnverified) => return Ok(()),
            begun => begun?,
        };
        self.copied(&migration)?;
        if self.is(Mistake::DestinationNotVerified)
            || self.is(Mistake::SuccessUnverified)
            || self.is(Mistake::GoesOnAfterAFailedCopy)
        {
            return Ok(());
        }
        if running(&vm)? == self.destination.name() { Ok(()) } else { Err(person("it is not there")) }
    }

    fn options(&self) -> MigrateOptions {
        // The runner would abort the copy of an active by itself.
        let abort_if_active = !matches!(
            self.mistake,
            Mistake::NoWatchWhileCopying
                | Mistake::ActiveFirst
                | Mistake::GoesOnAfterAFailedSwitchover
                | Mistake::UndoWithoutAWatch
        );
        MigrateOptions { max_pause: None, bandwidth: None, timeout: None, abort_if_active, cold: false }
    }

    fn copied(&self, migration: &Migration) -> Result<(), Stop> {
        for _ in 0..TURNS {
            match migration.wait(TURN) {
                Err(_) if self.is(Mistake::DestinationNotVerified) => return Ok(()),
                Err(error) => return Err(error.into()),
                Ok(Some(MigrationEnd::Completed(_))) => return Ok(()),
                Ok(Some(_)) if self.is(Mistake::GoesOnAfterAFailedCopy) => return Ok(()),
                Ok(Some(end)) => return Err(Stop::Failed(format!("{end:?}"))),
                Ok(None) => {}
            }
        }
        Err(person("the copy does not end"))
    }

    fn switch(&self, active: &Server, standby: &Server) -> Result<(), Stop> {
        self.settle(active)?;
        let probed = !self.is(Mistake::ServiceNotProbed);
        if probed && standby.answers(ANSWER)?.is_none() {
            return Err(Stop::Failed("the standby does not serve".into()));
        }
        match self.mistake {
            Mistake::RetryOfAnUnknownOutcome => {
                return match self.command(standby) {
                    Err(Stop::NeedsAPerson(_)) => self.command(standby),
                    said => said,
                };
            }
            Mistake::UnknownReadAsStandby => return self.command(standby),
            Mistake::RolesCachedAcrossTheSwitch => {
                self.roles()?;
                self.command(standby)?;
                // It is over by then, but nobody looks whether it happened.
                leapfrog_plugin::time::sleep(1_000);
                return Ok(());
            }
            _ => {}
        }
        let switchover = self.pair.switchover(standby)?;
        if self.is(Mistake::NoWaitForTheSwitchover) {
            // Long enough for the command to be given.
            leapfrog_plugin::time::sleep(100);
            return Ok(());
        }
        for _ in 0..TURNS {
            match switchover.wait(TURN)? {
                Some(SwitchoverEnd::Completed(_)) => return Ok(()),
                Some(_) if self.is(Mistake::GoesOnAfterAFailedSwitchover) => return Ok(()),
                Some(end) => return Err(Stop::Failed(format!("{end:?}"))),
                None => {}
            }
        }
        Err(person("the switchover does not end"))
    }

    /// Tell the middleware to make a server active, without the runner's own looks.
    fn command(&self, to: &Server) -> Result<(), Stop> {
        let args = ["role".to_owned(), "switch".to_owned()];
        match to.execute(&args, "") {
            Ok(output) if output.status == 0 => Ok(()),
            Ok(output) => Err(Stop::Failed(format!("status {}", output.status))),
            Err(error) => Err(error.into()),
        }
    }
}

/// The one machine that runs a VM.
fn running(vm: &Vm) -> Result<String, Stop> {
    let placements = vm.placements()?;
    let mut running = placements.iter().filter(|p| p.state == VmState::Running && !p.migrating);
    match (running.next(), running.next()) {
        (Some(one), None) => Ok(one.machine.clone()),
        _ => Err(person(format!("where {} runs is not clear", vm.name()))),
    }
}

leapfrog_plugin::export!(Wrong);
