// Makes the simulator misbehave, for the tests beside it.
import assert from "node:assert/strict";

/** Set the faults to have from now on; without an argument, none. */
export async function faults(wanted = {}) {
  const reply = await fetch(`${process.env.SIMULATOR_URL}/simulator/faults`, {
    method: "POST",
    body: JSON.stringify(wanted),
  });
  assert.equal(reply.status, 200);
}
