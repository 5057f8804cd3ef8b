/** Worlds in which something was found once: `[seed, jobs]`, with what it was. They are played in every test run. */
export const KEPT_SEEDS: readonly (readonly [seed: number, jobs: number, found: string])[] = [
  [1, 500, 'an offer that was lost before anybody had claimed was never made again (a fault of the model)'],
];
