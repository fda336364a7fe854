//! A procedure that does what no plugin should, by the name of the misdeed. What can only be said
//! in WebAssembly itself is made by the tests in `tests/hostile`.

leapfrog_plugin::procedure! {
    path: ["../../wit", "wit"],
    world: "leapfrog:hostile-plugins/hostile",
}

use std::hint::black_box;

use bindings::Misdeed;
use leapfrog_plugin::{log, login::Output, procedure::*, time};

const MIB: usize = 1 << 20;
/// What moves a terminal, renames its window, turns the direction of writing, ends an element of a
/// page, and breaks a line.
const ESCAPES: &str = "\u{1b}[2J\u{1b}]0;owned\u{7}\u{9b}31m\u{202e}</td><script>alert(1)</script><img src=x onerror=alert(2)>\r\ndone";

struct Hostile;

fn letters(count: usize) -> String {
    "x".repeat(count)
}

fn given(gave: Result<Output, Error>) -> Result<Vec<String>, Stop> {
    gave.map(|_| vec!["it was run".to_owned()]).map_err(Stop::from)
}

impl Guest for Hostile {
    fn misbehave(pair: &Pair, misdeed: Misdeed) -> Result<Vec<String>, Stop> {
        let done = |what: &str| Ok(vec![what.to_owned()]);
        let servers = pair.members();
        let Some(server) = servers.first() else { return done("there is nobody") };
        match misdeed {
            Misdeed::None => honest(pair, server),
            Misdeed::ComputesForEver => loop {
                black_box(());
            },
            Misdeed::CallsWhatIsFreeForEver => loop {
                black_box(pair.name());
            },
            Misdeed::TakesAllMemory => {
                let mut taken: Vec<Vec<u8>> = Vec::new();
                loop {
                    taken.push(black_box(vec![1; MIB]));
                }
            }
            Misdeed::CallsItselfForEver => done(&deeper(1).to_string()),
            Misdeed::HoardsHandles => {
                let mut held = Vec::new();
                for _ in 0..1_000_000 {
                    held.push(pair.members());
                }
                done(&held.len().to_string())
            }
            Misdeed::WritesALongNote => {
                note!("{}", letters(17 << 10));
                done("it was taken")
            }
            Misdeed::WritesAHugeNote => {
                log::note(log::Level::Info, &letters(24 * MIB));
                done("it was taken")
            }
            Misdeed::WritesNotesForEver => loop {
                note!("again");
            },
            Misdeed::WritesLongNotesForEver => {
                let text = letters(16 << 10);
                loop {
                    note!("{text}");
                }
            }
            Misdeed::BeginsPartsForEver => loop {
                run::step("again");
            },
            Misdeed::WaitsForTooMuch => {
                let events: Vec<_> = (0..257).map(|_| run::Event::After(1)).collect();
                done(&format!("{:?}", run::wait_any(&events)))
            }
            Misdeed::SleepsForEver => {
                time::sleep(u64::MAX);
                done("it is over")
            }
            Misdeed::GivesAHugeArgument => given(server.query(&["echo".to_owned(), letters(200_000)])),
            Misdeed::GivesAMillionArguments => given(server.query(&vec![String::new(); 1_000_000])),
            Misdeed::GivesAHugeInput => given(server.execute(&["tee".to_owned()], &letters(2 * MIB))),
            Misdeed::RunsWhatItMayNot => runs_what_it_may_not(server),
            Misdeed::GivesAHugeText => Ok(vec![letters(8 * MIB)]),
            Misdeed::GivesAHugeList => Ok(vec![String::new(); 1_000_000]),
            Misdeed::StopsWithAHugeText => Err(Stop::Failed(letters(8 * MIB))),
            Misdeed::Panics => panic!("it gives up"),
            Misdeed::PanicsAtLength => panic!("{}", letters(8 * MIB)),
            Misdeed::CallsInAPanic => {
                std::panic::set_hook(Box::new(|panic| {
                    note!("it is not over yet");
                    run::step("a part after the end");
                    log::panicked(&panic.to_string());
                    time::sleep(1);
                }));
                panic!("it calls in its panic");
            }
            Misdeed::ReadsRoles => {
                let roles = pair.roles()?;
                match roles.iter().find_map(|role| Some((&role.server, role.problem.as_ref()?))) {
                    Some((server, why)) => Err(Stop::Failed(format!("{server} is unknown: {why}"))),
                    None => Ok(roles.iter().map(|role| format!("{} {:?}", role.server, role.role)).collect()),
                }
            }
            Misdeed::Escapes => escapes(server),
            Misdeed::AsksWithEscapes => done(&format!("{:?}", run::confirm(ESCAPES))),
            Misdeed::PanicsWithEscapes => panic!("{ESCAPES}"),
        }
    }

    fn leap(pair: &Pair, destination: &Machine) -> Result<String, Stop> {
        let standby = pair.roles()?.into_iter().find(|member| member.role == Role::Standby);
        let Some(server) =
            pair.members().into_iter().find(|s| standby.as_ref().is_some_and(|m| m.server == s.name()))
        else {
            return Ok("there is no standby".to_owned());
        };
        let options = MigrateOptions {
            max_pause: None,
            bandwidth: None,
            timeout: None,
            abort_if_active: true,
            cold: false,
        };
        let migration = server.vm().migrate(destination, options)?;
        match migration.wait(600_000)? {
            Some(MigrationEnd::Completed(_)) => Err(Stop::Failed("it stops in the middle".to_owned())),
            other => Ok(format!("{other:?}")),
        }
    }

    /// All that it asks for is refused at once, again and again.
    fn undo_leap(pair: &Pair, destination: &Machine) -> Result<String, Stop> {
        let servers = pair.members();
        let Some(server) = servers.first() else { return Ok("there is nobody".to_owned()) };
        let options = || MigrateOptions {
            max_pause: None,
            bandwidth: None,
            timeout: None,
            abort_if_active: false,
            cold: false,
        };
        loop {
            black_box(pair.switchover(server).is_err());
            black_box(server.vm().migrate(destination, options()).is_err());
        }
    }
}

/// What a procedure may do, so that the runner is seen to serve it beside the others.
fn honest(pair: &Pair, server: &Server) -> Result<Vec<String>, Stop> {
    run::step("look at the pair");
    for _ in 0..5 {
        let roles = pair.roles()?;
        if roles.iter().any(|role| role.role == Role::Unknown) {
            return Err(Stop::Failed(format!("{roles:?}")));
        }
        server.vm().placements()?;
        note!("{} is looked at", server.name());
    }
    Ok(vec!["it was looked at".to_owned()])
}

fn deeper(depth: u64) -> u64 {
    if depth == u64::MAX {
        return 0;
    }
    let room = black_box([depth; 64]);
    1 + deeper(room[(depth % 64) as usize] + 1) + black_box(room)[0]
}

/// Each is refused, as no pattern of the inventory allows it.
fn runs_what_it_may_not(server: &Server) -> Result<Vec<String>, Stop> {
    let commands: [&[&str]; 14] = [
        &["reboot"],
        &["cat;reboot"],
        &["cat", "/etc/keepalived/switch;reboot", "x"],
        &["cat $(reboot)"],
        &["`reboot`"],
        &["cat\nreboot"],
        &["cat", "--", "|", "sh"],
        &["/bin/../bin/cat", "x"],
        &["sh", "-c", "reboot"],
        &["*", "x"],
        &["CAT", "x"],
        &[" cat", "x"],
        &["", "cat", "x"],
        &[],
    ];
    let mut refused = Vec::new();
    for args in commands {
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        for gave in [server.query(&args), server.execute(&args, "yes\n")] {
            match gave {
                Err(Error::Refused(why)) => refused.push(why),
                other => return Err(Stop::Failed(format!("{args:?} gave {other:?}"))),
            }
        }
    }
    Ok(refused)
}

fn escapes(server: &Server) -> Result<Vec<String>, Stop> {
    note!("{ESCAPES}");
    warn!("{ESCAPES}");
    run::step(ESCAPES);
    run::point_of_no_return(ESCAPES);
    // What a command writes comes back as foreign as it is; a path may be anything, too.
    let gave = server.query(&["cat".to_owned(), ESCAPES.to_owned()])?;
    note!("{}{}", gave.stdout, gave.stderr);
    Err(Stop::Failed(format!("{ESCAPES} (hint: {ESCAPES})")))
}

leapfrog_plugin::export!(Hostile);
