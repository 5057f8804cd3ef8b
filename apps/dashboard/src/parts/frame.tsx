import { useEffect, type ReactNode } from 'react';
import { Alert, Anchor, Breadcrumbs, Group, Loader, Stack, Text, Title } from '@mantine/core';
import { Link } from 'react-router';
import { ApiError } from '../api.js';

/** The top of a page: where it is, what it shows, and what can be done with it. */
export function PageHead({
  title,
  trail = [],
  status,
  actions,
}: {
  readonly title: ReactNode;
  readonly trail?: readonly { readonly label: string; readonly to: string }[];
  readonly status?: ReactNode;
  readonly actions?: ReactNode;
}) {
  const name = typeof title === 'string' ? title : undefined;
  useEffect(() => {
    document.title = name === undefined ? 'Vendor Cloud' : `${name} · Vendor Cloud`;
  }, [name]);
  return (
    <Stack gap={4} mb="md">
      {trail.length > 0 && (
        <Breadcrumbs separator="/" separatorMargin={6} fz="xs">
          {trail.map(({ label, to }) => (
            <Link key={to} to={to} className="link">
              {label}
            </Link>
          ))}
        </Breadcrumbs>
      )}
      <Group justify="space-between" gap="sm" mih={30}>
        <Group gap="md">
          <Title order={1}>{title}</Title>
          {status}
        </Group>
        <Group gap="xs">{actions}</Group>
      </Group>
    </Stack>
  );
}

export function Panel({
  title,
  aside,
  flush = false,
  children,
}: {
  readonly title?: ReactNode;
  readonly aside?: ReactNode;
  /** The content reaches the border: tables, graphs, logs. */
  readonly flush?: boolean;
  readonly children: ReactNode;
}) {
  return (
    <section className="panel" aria-label={typeof title === 'string' ? title : undefined}>
      {title !== undefined && (
        <Group justify="space-between" px="md" py={10} gap="xs">
          <Title order={2} fz="sm">
            {title}
          </Title>
          {aside}
        </Group>
      )}
      <div style={flush ? undefined : { padding: title === undefined ? 16 : '2px 16px 16px' }}>{children}</div>
    </section>
  );
}

export function Loading() {
  return (
    <Group justify="center" p="xl" role="status" aria-label="loading">
      <Loader size="sm" type="dots" />
    </Group>
  );
}

export function Empty({ children }: { readonly children: ReactNode }) {
  return (
    <Text className="muted" fz="sm" ta="center" py="lg" px="md">
      {children}
    </Text>
  );
}

/** An error as the API says it: what, why, and what to do next. */
export function Failed({ error }: { readonly error: Error }) {
  if (!(error instanceof ApiError)) return <Alert color="red" title={error.message} />;
  return (
    <Alert color="red" title={error.detail} role="alert">
      <Text fz="sm">{error.next}</Text>
      {error.errors.length > 0 && (
        <ul>
          {error.errors.map(({ pointer, message }) => (
            <li key={pointer + message}>
              <span className="mono">{pointer}</span> {message}
            </li>
          ))}
        </ul>
      )}
      <Text fz="xs" className="muted" mt={4}>
        <Anchor href={`/errors/${error.code}`} fz="xs">
          {error.code}
        </Anchor>
        {error.requestId === undefined ? '' : ` · request ${error.requestId}`}
      </Text>
    </Alert>
  );
}

/** What is asked for, or that it is being read, or why it is not there. */
export function Shown<T>({
  of: { data, error },
  children,
}: {
  readonly of: { readonly data: T | undefined; readonly error: Error | null };
  readonly children: (value: T) => ReactNode;
}) {
  if (data !== undefined) {
    return (
      <>
        {error !== null && <Failed error={error} />}
        {children(data)}
      </>
    );
  }
  return error === null ? <Loading /> : <Failed error={error} />;
}
