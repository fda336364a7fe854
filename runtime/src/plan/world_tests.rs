//! The world of a plan: real looks, and moves that happen only in it.

use std::path::Path;

use super::*;
use crate::{
    clock::Clock,
    engine::bindings::{cluster::MemberRole, types::Role},
    inventory,
    model::{PairName, VmState},
    providers::{MigrateOptions, sim::SimWorld},
};

struct Planning {
    sim: SimWorld,
    world: World,
    overlay: Arc<Overlay>,
}

fn planning() -> Planning {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/simulator/inventory.yaml");
    let inventory = Arc::new(inventory::load(&[file]).expect("an inventory"));
    let sim = SimWorld::in_memory(&inventory, Clock::new(1.0)).expect("a world");
    let overlay = Arc::new(Overlay::new(&inventory));
    let world = over(&sim.providers(), inventory, overlay.clone());
    Planning { sim, world, overlay }
}

fn command(args: &[&str], stdin: &str) -> Command {
    Command {
        args: args.iter().map(|arg| (*arg).to_owned()).collect(),
        stdin: stdin.as_bytes().to_vec(),
        timeout: Duration::from_secs(10),
        output_limit: 1 << 16,
    }
}

async fn request(world: &World, vm: &str, source: &str, destination: &str) -> MigrationRequest {
    let vm = VmName::from(vm);
    let at = world.hypervisor.look(&source.into(), &vm, None).await.expect("it answers");
    MigrationRequest {
        vm,
        uuid: at.uuid.expect("it is there"),
        source: source.into(),
        destination: destination.into(),
        options: MigrateOptions::default(),
    }
}

async fn states(world: &World, vm: &str) -> [VmState; 2] {
    let (a, b) = (MachineName::from("a"), MachineName::from("b"));
    let look =
        async |machine| world.hypervisor.look(machine, &vm.into(), None).await.expect("it answers").state;
    [look(&a).await, look(&b).await]
}

#[tokio::test(start_paused = true)]
async fn a_planned_move_is_seen_and_has_not_happened() {
    let Planning { sim, world, overlay } = planning();
    let there = request(&world, "sip-2", "a", "b").await;
    let migration = world.hypervisor.migrate(&there).await.expect("nothing speaks against it");
    let end = migration.wait(Duration::ZERO).await.expect("it is told");
    // 2 GiB over 400 MiB/s.
    let expected = Duration::from_millis(5120);
    assert!(matches!(end, Some(MigrationEnd::Completed(f)) if f.total == expected));
    assert_eq!(states(&world, "sip-2").await, [VmState::Absent, VmState::Running]);
    assert_eq!(states(&sim.providers(), "sip-2").await, [VmState::Running, VmState::Absent]);
    assert_eq!(sim.snapshot().await.expect("a world").counts.migrations, 0);
    // And back again.
    let back = request(&world, "sip-2", "b", "a").await;
    world.hypervisor.migrate(&back).await.expect("nothing speaks against it");
    assert_eq!(states(&world, "sip-2").await, [VmState::Running, VmState::Absent]);
    assert!(overlay.assumptions().iter().any(|text| text.contains("sip-2 can move from b to a")));
}

#[tokio::test(start_paused = true)]
async fn a_planned_arrival_needs_its_room_at_the_destination() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/simulator/inventory.yaml");
    let mut inventory = inventory::load(&[file]).expect("an inventory");
    let simulator = inventory.simulator.as_mut().expect("a simulator");
    simulator.machine_memory.insert("b".into(), 3 << 30);
    let inventory = Arc::new(inventory);
    let sim = SimWorld::in_memory(&inventory, Clock::new(1.0)).expect("a world");
    let world = over(&sim.providers(), inventory.clone(), Arc::new(Overlay::new(&inventory)));
    let first = request(&world, "sip-2", "a", "b").await;
    let second = request(&world, "sip-1", "a", "b").await;
    world.hypervisor.preflight(&second).await.expect("there is room for one");
    world.hypervisor.migrate(&first).await.expect("there is room for one");
    world.hypervisor.preflight(&second).await.expect_err("b has room for one of them");
}

#[tokio::test(start_paused = true)]
async fn a_command_that_changes_something_is_not_run_and_what_is_read_then_is_assumed() {
    let Planning { sim, world, overlay } = planning();
    let server = ServerName::from("sip-1");
    let read = command(&["cat", "/etc/keepalived/switch"], "");
    world.login.run(&server, &read).await.expect("it is read");
    assert_eq!(overlay.assumptions(), Vec::<String>::new());
    let gave = world.login.execute(&server, &command(&["tee", "/etc/keepalived/switch"], "7\n")).await;
    assert_eq!(gave, Ok(Output::default()));
    assert_eq!(sim.snapshot().await.expect("a world").servers[&server].track, 0);
    assert_eq!(world.login.run(&server, &read).await.expect("it is read").stdout, b"0\n");
    let assumed = overlay.assumptions();
    assert!(
        assumed[0].contains("`cat /etc/keepalived/switch`") && assumed[0].contains("on sip-1"),
        "{assumed:?}"
    );
}

#[test]
fn roles_are_read_until_the_first_planned_switchover() {
    let overlay = planning_overlay();
    let pair = PairName::from("sip");
    let role = |server: &str, role| MemberRole { server: server.into(), role, problem: None };
    let read = [role("one", Role::Active), role("two", Role::Standby), role("three", Role::Witness)];
    overlay.saw_roles(&pair, &read);
    assert!(overlay.roles(&pair).is_none() && !overlay.is_switched(&pair));
    overlay.switches(&pair, &"one".into(), &"two".into());
    let roles: Vec<_> = overlay.roles(&pair).expect("known").into_iter().map(|r| r.role).collect();
    assert_eq!(roles, [Role::Standby, Role::Active, Role::Witness]);
}

fn planning_overlay() -> Overlay {
    Overlay::new(&Inventory::default())
}
