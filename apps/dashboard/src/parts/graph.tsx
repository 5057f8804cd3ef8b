import { memo, useMemo } from 'react';
import dagre from '@dagrejs/dagre';
import { Background, Handle, Position, ReactFlow, type Edge, type Node, type NodeProps } from '@xyflow/react';
import { useComputedColorScheme } from '@mantine/core';
import { useNavigate } from 'react-router';
import { Status, toneOf, toneStyle } from './status.js';

export interface GraphNode {
  readonly id: string;
  readonly name: string;
  /** Second line, beside the status. */
  readonly note: string;
  readonly status: string;
  /** Ids of nodes that come first. */
  readonly after: readonly string[];
  readonly to?: string;
}
type Shown = Node<{ readonly node: GraphNode }, 'work'>;

const WIDTH = 190;
const HEIGHT = 58;

/** Without the edges that a longer way says already: people look for what comes next, not for every relation. */
export function reduced(nodes: readonly GraphNode[]): Map<string, readonly string[]> {
  const after = new Map(nodes.map(({ id, after: before }) => [id, before]));
  const reachable = new Map<string, Set<string>>();
  const reach = (id: string): Set<string> => {
    const known = reachable.get(id);
    if (known !== undefined) return known;
    const found = new Set<string>();
    reachable.set(id, found);
    for (const before of after.get(id) ?? []) {
      found.add(before);
      for (const further of reach(before)) found.add(further);
    }
    return found;
  };
  return new Map(
    nodes.map(({ id, after: before }) => [
      id,
      before.filter((one) => after.has(one) && !before.some((other) => other !== one && reach(other).has(one))),
    ]),
  );
}

function layout(nodes: readonly GraphNode[]): { nodes: Shown[]; edges: Edge[]; height: number } {
  const graph = new dagre.graphlib.Graph();
  graph.setGraph({ rankdir: 'LR', nodesep: 16, ranksep: 48, marginx: 8, marginy: 8 });
  graph.setDefaultEdgeLabel(() => ({}));
  for (const { id } of nodes) graph.setNode(id, { width: WIDTH, height: HEIGHT });
  const edges: Edge[] = [];
  for (const [id, before] of reduced(nodes)) {
    for (const one of before) {
      graph.setEdge(one, id);
      edges.push({ id: `${one}-${id}`, source: one, target: id, type: 'smoothstep', focusable: false });
    }
  }
  dagre.layout(graph);
  const placed = nodes.map((node): Shown => {
    const { x, y } = graph.node(node.id) as { x: number; y: number };
    return {
      id: node.id,
      type: 'work',
      position: { x: x - WIDTH / 2, y: y - HEIGHT / 2 },
      data: { node },
      focusable: false,
      draggable: false,
    };
  });
  return { nodes: placed, edges, height: (graph.graph() as { height?: number }).height ?? HEIGHT };
}

const WorkNode = memo(({ data: { node } }: NodeProps<Shown>) => {
  const navigate = useNavigate();
  const { to } = node;
  const content = (
    <>
      <div className="node-name">{node.name}</div>
      <div className="muted">
        <Status value={node.status} />
        {node.note === '' ? '' : ` · ${node.note}`}
      </div>
    </>
  );
  return (
    <>
      <Handle type="target" position={Position.Left} isConnectable={false} style={{ opacity: 0 }} />
      {to === undefined ? (
        <div className="node" style={toneStyle(toneOf(node.status))}>
          {content}
        </div>
      ) : (
        <a
          className="node nopan"
          href={to}
          style={toneStyle(toneOf(node.status))}
          onClick={(event) => {
            if (event.metaKey || event.ctrlKey) return;
            event.preventDefault();
            void navigate(to);
          }}
        >
          {content}
        </a>
      )}
      <Handle type="source" position={Position.Right} isConnectable={false} style={{ opacity: 0 }} />
    </>
  );
});
WorkNode.displayName = 'WorkNode';
const NODE_TYPES = { work: WorkNode };

/** Work and what it waits for, from left to right. Its nodes are links, so it can be walked with the keyboard. */
export function Graph({ nodes, label }: { readonly nodes: readonly GraphNode[]; readonly label: string }) {
  const scheme = useComputedColorScheme('light');
  // The place of a node follows from the shape alone; a status that changes moves nothing.
  const shape = JSON.stringify(nodes.map(({ id, after }) => [id, after]));
  const placed = useMemo(() => layout(nodes), [shape]);
  const byId = new Map(nodes.map((node) => [node.id, node]));
  const shown = placed.nodes.map((one) => ({ ...one, data: { node: byId.get(one.id) ?? one.data.node } }));
  return (
    <div
      className="graph"
      role="group"
      aria-label={label}
      style={{ height: Math.min(460, Math.max(120, placed.height + 24)) }}
    >
      <ReactFlow
        key={shape}
        nodes={shown}
        edges={placed.edges}
        nodeTypes={NODE_TYPES}
        colorMode={scheme}
        fitView
        fitViewOptions={{ maxZoom: 1, padding: 0.06 }}
        minZoom={0.2}
        nodesConnectable={false}
        nodesFocusable={false}
        edgesFocusable={false}
        elementsSelectable={false}
        zoomOnScroll={false}
        preventScrolling={false}
        proOptions={{ hideAttribution: true }}
      >
        <Background gap={20} size={1} />
      </ReactFlow>
    </div>
  );
}
