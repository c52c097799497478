// The least a server can be asked, to see how fast the load generator is.
export const trivial = () => ({ gets: [{ path: '/', check: (body) => (body.length > 10 ? undefined : 'empty') }] });
