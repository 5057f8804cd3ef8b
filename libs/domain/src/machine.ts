/** A state machine as a table: what may follow what. `from[state][event]` is the next state; what is absent is refused. */
export interface MachineTable<S extends string, E extends string> {
  readonly name: string;
  readonly initial: readonly S[];
  /** States that nothing leaves. Empty for a machine that never ends (an agent's presence). */
  readonly finals: readonly S[];
  readonly from: Readonly<Record<S, Readonly<Partial<Record<E, S>>>>>;
}

export interface Machine<S extends string, E extends string> extends MachineTable<S, E> {
  /** The next state, or undefined when the event is not for this state. */
  next(state: S, event: E): S | undefined;
  isFinal(state: S): boolean;
}

/** What a rule answers: the new state and what must be done about it, or why not. */
export type Decision<S, F, C extends string = string> =
  { readonly next: S; readonly effects: readonly F[] } | { readonly refusal: C; readonly detail: string };

const reachable = <S extends string>(starts: readonly S[], exits: (state: S) => readonly S[]): Set<S> => {
  const seen = new Set(starts);
  const todo = [...starts];
  for (let state = todo.pop(); state !== undefined; state = todo.pop()) {
    for (const next of exits(state).filter((candidate) => !seen.has(candidate))) {
      seen.add(next);
      todo.push(next);
    }
  }
  return seen;
};

/**
 * Checks a table when its module is loaded, so that a service with a wrong table does not start: every state can be
 * reached, nothing leaves a final state, and (in a machine that has finals) every other state can get to one.
 * Throws an Error that lists every fault.
 */
export function defineMachine<S extends string, E extends string>(table: MachineTable<S, E>): Machine<S, E> {
  const states = Object.keys(table.from) as S[];
  const exits = (state: S): S[] =>
    Object.values<S | undefined>(table.from[state] ?? {}).filter((next) => next !== undefined);
  const seen = reachable(table.initial, exits);
  const faults = [
    ...states.filter((state) => !seen.has(state)).map((state) => `${state} cannot be reached`),
    ...table.finals.filter((state) => exits(state).length > 0).map((state) => `${state} is final and has exits`),
    ...states
      .flatMap(exits)
      .filter((state) => !states.includes(state))
      .map((state) => `${state} is not declared`),
  ];
  if (table.finals.length > 0) {
    for (const state of states) {
      const ends = reachable([state], exits);
      if (!table.finals.some((final) => ends.has(final))) faults.push(`${state} never ends`);
    }
  }
  if (faults.length > 0) throw new Error(`machine ${table.name}: ${faults.join('; ')}`);
  return {
    ...table,
    next: (state, event) => table.from[state][event],
    isFinal: (state) => table.finals.includes(state),
  };
}
