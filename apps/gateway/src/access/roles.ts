/** What a key may be for. `owner` is the first key of a vendor. */
export const ROLES = ['owner', 'engineer', 'ci', 'read_only'] as const;
export type Role = (typeof ROLES)[number];

/**
 * What a route needs: to look; to `ship` (what a pipeline does: describe, build, release, deploy, cancel); to `operate`
 * (identities of agents, approvals, tokens); to `administer` (keys).
 */
export type Right = 'read' | 'ship' | 'operate' | 'administer';

const RIGHTS: Readonly<Record<Role, readonly Right[]>> = {
  owner: ['read', 'ship', 'operate', 'administer'],
  engineer: ['read', 'ship', 'operate'],
  ci: ['read', 'ship'],
  read_only: ['read'],
};

export const mayDo = (role: Role, right: Right): boolean => RIGHTS[role].includes(right);

/** The right that a route needs: what it declares, else to look for a GET and to operate for a change. */
export const rightOf = ({ method, needs }: { readonly method: string; readonly needs?: Right }): Right =>
  needs ?? (method === 'GET' ? 'read' : 'operate');
