const price = new Intl.NumberFormat(undefined, { minimumFractionDigits: 2, maximumFractionDigits: 2 });
const percent = new Intl.NumberFormat(undefined, { style: 'percent', minimumFractionDigits: 2, signDisplay: 'exceptZero' });
const minutes = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit' });
const seconds = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit', second: '2-digit' });

export const money = (value) => price.format(value);
export const change = (value) => percent.format(value);
export const clock = (time, exact) => (exact ? seconds : minutes).format(time);
