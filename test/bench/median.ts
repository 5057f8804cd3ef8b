/** The middle one of an odd number of values, the upper of the middle two of an even number; 0 of none. */
export const median = (values: readonly number[]): number => [...values].sort((a, b) => a - b)[values.length >> 1] ?? 0;
