import { type ReactNode } from 'react';
import {
  ActionIcon,
  AppShell,
  Burger,
  Group,
  Menu,
  NavLink,
  Stack,
  Text,
  useComputedColorScheme,
  useMantineColorScheme,
} from '@mantine/core';
import { useDisclosure } from '@mantine/hooks';
import { Link, useLocation, useNavigate } from 'react-router';
import { ims, queries, rememberSignedIn, useChange, type Schemas } from './api.js';
import icon from './icon.svg';

const PLACES = [
  { to: '/installs', label: 'Installs', also: ['/deployments'] },
  { to: '/apps', label: 'Apps and releases', also: ['/releases'] },
  { to: '/jobs', label: 'Jobs', also: [] },
  { to: '/agents', label: 'Agents', also: [] },
] as const;

/** What is around every page: where one can go, who is signed in, light or dark. */
export function Shell({ session, children }: { readonly session: Schemas['Session']; readonly children: ReactNode }) {
  const [opened, { toggle, close }] = useDisclosure();
  const { pathname } = useLocation();
  const navigate = useNavigate();
  const { setColorScheme } = useMantineColorScheme();
  const scheme = useComputedColorScheme('light');
  const signOut = useChange(
    () => ims.delete('/v1/session'),
    () => {
      rememberSignedIn(false);
      queries.clear();
      queries.setQueryData(['session'], null);
      void navigate('/');
    },
  );
  const isHere = (path: string): boolean => pathname === path || pathname.startsWith(`${path}/`);
  return (
    <AppShell
      header={{ height: 48 }}
      navbar={{ width: 210, breakpoint: 'sm', collapsed: { mobile: !opened } }}
      padding="md"
    >
      <a href="#content" className="skip-link">
        Skip to content
      </a>
      <AppShell.Header>
        <Group h="100%" px="md" justify="space-between" wrap="nowrap">
          <Group gap="xs" wrap="nowrap">
            <Burger opened={opened} onClick={toggle} hiddenFrom="sm" size="sm" aria-label="navigation" />
            <img src={icon} width={22} height={22} alt="" />
            <Text fw={600}>Vendor Cloud</Text>
          </Group>
          <Group gap="xs" wrap="nowrap">
            <ActionIcon
              variant="subtle"
              color="gray"
              aria-label={scheme === 'dark' ? 'light colours' : 'dark colours'}
              onClick={() => setColorScheme(scheme === 'dark' ? 'light' : 'dark')}
            >
              <svg
                width="16"
                height="16"
                viewBox="0 0 16 16"
                fill="none"
                stroke="currentColor"
                strokeWidth="1.5"
                aria-hidden
              >
                <circle cx="8" cy="8" r="5.500" />
                <path d="M8 2.500v11A5.500 5.500 0 0 0 8 2.500" fill="currentColor" stroke="none" />
              </svg>
            </ActionIcon>
            <Menu position="bottom-end" width={180}>
              <Menu.Target>
                <ActionIcon variant="light" radius="xl" aria-label={`account of ${session.vendor.name}`}>
                  <Text fz="xs" fw={700} tt="uppercase">
                    {session.vendor.name.slice(0, 1)}
                  </Text>
                </ActionIcon>
              </Menu.Target>
              <Menu.Dropdown>
                <Menu.Label>{session.vendor.name}</Menu.Label>
                <Menu.Item component="a" href="/openapi.json" target="_blank">
                  REST API
                </Menu.Item>
                <Menu.Item onClick={() => signOut.mutate(undefined)}>Sign out</Menu.Item>
              </Menu.Dropdown>
            </Menu>
          </Group>
        </Group>
      </AppShell.Header>
      <AppShell.Navbar p="xs" aria-label="pages">
        <Stack gap={2}>
          {PLACES.map(({ to, label, also }) => (
            <NavLink
              key={to}
              component={Link}
              to={to}
              label={label}
              active={isHere(to) || also.some(isHere)}
              aria-current={isHere(to) ? 'page' : undefined}
              onClick={close}
              style={{ borderRadius: 'var(--mantine-radius-sm)' }}
            />
          ))}
        </Stack>
      </AppShell.Navbar>
      <AppShell.Main id="content">
        <div style={{ maxWidth: 1280, margin: '0 auto' }}>{children}</div>
      </AppShell.Main>
    </AppShell>
  );
}
